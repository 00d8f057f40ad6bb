"""What each choice of a conversion means: one table a kind, and everybody reads it here.

A new activation, estimator, balance or shortcut is its value in `plan.py`, its row here, and the
class or function that the row names.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any

from irbin.records.plan import Activation, Balance, Downsample, Shortcut

CLIP_VALUE = 1.0
"""|x| from which the clipped estimators let no gradient through."""


@dataclass(frozen=True)
class ActivationKind:
    """What stands in for a ReLU that feeds a sign."""

    equation: str
    """Of a value x; γ, ζ and w are learned."""
    module: str
    """Where its class is: `package.module:Class`."""
    n_learned: int
    """Numbers that every channel learns; a class that learns takes channels and a first slope."""
    steps: tuple[str, ...]
    """What it becomes on the way out of a kernel, see `program.fused.StepKind`."""
    gives_both_signs: bool = True
    """Whether a sign behind it can be −1."""

    @property
    def cls(self) -> Any:
        """Its class, imported when asked for."""
        return resolve_name(self.module)


ACTIVATIONS: dict[Activation, ActivationKind] = {
    "hardtanh": ActivationKind("max(−1, min(1, x))", "torch.nn:Hardtanh", 0, ("clamp",)),
    "prelu": ActivationKind("max(0, x) + w·min(0, x)", "torch.nn:PReLU", 1, ("prelu",)),
    "rprelu": ActivationKind(
        "max(0, x − γ) + w·min(0, x − γ) + ζ",
        "irbin.binary.activations:RPReLU",
        3,
        ("subtract", "prelu", "add"),
    ),
    "keep": ActivationKind("max(0, x)", "torch.nn:ReLU", 0, ("clamp",), gives_both_signs=False),
}
"""`keep` leaves each activation as it is, which is a ReLU or kin."""


@dataclass(frozen=True)
class EstimatorKind:
    """A rule for the backward pass of y = sign(x)."""

    equation: str
    """dL/dx for dL/dy = 1."""
    function: str
    """Where it is: `package.module:function`."""
    usable_radius: Callable[[float, float, float], float]
    """Of u, t, k: the |x| up to which it lets through u or more, for u below 1."""
    anneals: bool = False
    """Whether it follows EDE's t and k."""
    is_for_activations: bool = True
    """Else for weights alone."""

    @property
    def rule(self) -> Any:
        """The function, imported when asked for."""
        return resolve_name(self.function)


def _ede_radius(u: float, t: float, k: float) -> float:
    """k·t·(1 − tanh²(t·x)) ≥ u  ⇔  cosh(t·x) ≤ √(k·t/u), and k·t is never below 1."""
    return math.acosh(math.sqrt(k * t / u)) / t


ESTIMATORS: dict[str, EstimatorKind] = {
    "ede": EstimatorKind(
        "k·t·(1 − tanh²(t·x))", "irbin.binary.estimator:ede_sign", _ede_radius, anneals=True
    ),
    "ste": EstimatorKind(
        "[|x| ≤ 1]", "irbin.binary.estimator:ste_sign", lambda _u, _t, _k: CLIP_VALUE
    ),
    "triangle": EstimatorKind(
        "max(0, 2 − 2·|x|)",
        "irbin.binary.estimator:triangle_sign",
        lambda u, _t, _k: CLIP_VALUE - u / 2,
    ),
    "identity": EstimatorKind(
        "1",
        "irbin.binary.estimator:identity_sign",
        lambda _u, _t, _k: math.inf,
        is_for_activations=False,
    ),
}
"""`same`, which weights may be told, names no rule of its own."""


def estimator_of_weights(estimator: str, weight_estimator: str) -> str:
    """The name of the weights' estimator: their own, or that of the activations."""
    return estimator if weight_estimator == "same" else weight_estimator


@dataclass(frozen=True)
class BalanceKind:
    """What Libra-PB subtracts from a filter."""

    equation: str
    """Of a filter w."""
    suffix: str
    """Of the names of its binarizers, see `binary.libra.BINARIZERS`."""
    is_default: bool = False
    """Whether a binarizer that balances nothing may be told so."""


BALANCES: dict[Balance, BalanceKind] = {
    "mean": BalanceKind("w − mean(w)", "", is_default=True),
    "median": BalanceKind("w − median(w)", "-median"),
}


def binarizer_name(binarizer: str, balance: Balance, keeps_size: bool) -> str:
    """A name in `binary.libra.BINARIZERS`.

    Args:
        binarizer: `libra` or `plain`.
        balance: of `libra`.
        keeps_size: whether `libra` scales to the latent weight's own size.
    """
    if binarizer != "libra":
        return binarizer
    return "libra" + "-latent" * keeps_size + BALANCES[balance].suffix


@dataclass(frozen=True)
class ShortcutKind:
    """What becomes of the shortcuts round binary convolutions."""

    equation: str
    """Of a convolution f, or of what its shortcut does to x."""
    edit: str = ""
    """Where the function is that rewrites the traced graph for it, in place, following a plan:
    `package.module:function`; it gives notes by place. None where nothing is rewritten."""
    n_sums: int = 0
    """Tensors that are added behind every binary convolution."""

    @property
    def edits_graph(self) -> bool:
        """Whether the network's forward is rewritten for it."""
        return bool(self.edit)

    @property
    def function(self) -> Any:
        """The function, imported when asked for."""
        return resolve_name(self.edit)


SHORTCUTS: dict[Shortcut, ShortcutKind] = {
    "none": ShortcutKind("f(x)"),
    "bireal": ShortcutKind("f(x) + x", "irbin.rewriting.shortcuts:add_bireal", n_sums=1),
}

DOWNSAMPLES: dict[Downsample, ShortcutKind] = {
    "keep": ShortcutKind("x[::s, ::s]"),
    "avgpool": ShortcutKind(
        "mean of s × s pixels of x", "irbin.rewriting.downsample:average_downsamples"
    ),
}
