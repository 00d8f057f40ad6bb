"""What happens to a value after its inner product: a list of steps, each rounded to float32.

The list is the definition of the arithmetic (`docs/format.md`): a product and a sum are two
roundings, never one. `reference.apply_steps` computes it; the native kernels equal that bit for
bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
StepKind = Literal[
    "multiply",
    "add",
    "residual",
    "clamp",
    "prelu",
    "write",
    "elu",
    "sigmoid",
    "silu",
    "hardsigmoid",
    "hardswish",
    "gelu",
    "gelu_tanh",
    "tanh",
    "mish",
    "hold",
    "keep",
]
KINDS: tuple[StepKind, ...] = get_args(StepKind)
"""All of them, in the order of `StepKind` in csrc/contract.h."""
WITH_VALUES: tuple[StepKind, ...] = ("multiply", "add", "prelu", "elu")
"""Those with a number per channel."""

SMALLEST_NORMAL = np.finfo(np.float32).smallest_normal
LARGEST_DOT_EXPONENT = 24
"""A dot has at most 2^24 products (`docs/format.md`)."""


@dataclass(frozen=True, eq=False)
class Step:
    """One step on values whose channels are innermost. Made by `runtime`, read by the kernels."""

    kind: StepKind
    """`multiply` and `add` by a number per channel, `residual` adds a tensor, `clamp` to [low,
    high], `prelu` multiplies what is not positive by a slope per channel. `write` computes nothing:
    the result is what stands there, and the steps behind it are for its signs alone. `hold`
    computes nothing either; a `keep` gives what stands there the sign of what stood at the last
    `hold`, as `activations.kept`. The others are in `activations.py`; of them `elu` has a factor
    per channel."""
    values: Floats | None = None
    """(channels,) of what is in `WITH_VALUES`."""
    residual: int = 0
    """Which of the call's residual tensors is added."""
    low: float = 0.0
    """Of a clamp; −inf for none."""
    high: float = 0.0
    """Of a clamp; inf for none."""
    before: int = 0
    """Of a residual tensor with fewer channels: the channel that its first is added to."""
    channels: int = 0
    """How many channels a residual tensor has, 0 for all; to others +0 is added."""

    @property
    def vector(self) -> Floats:
        """The values of a step that has some."""
        assert self.values is not None, "see `WITH_VALUES`"
        return self.values


def split(steps: Sequence[Step]) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """The steps up to the first `write`, and those behind it; all and none without one."""
    at = next((i for i, step in enumerate(steps) if step.kind == "write"), len(steps))
    return tuple(steps[:at]), tuple(steps[at + 1 :])


def simplify(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Fewer steps with the same result, bit for bit.

    A product with ones changes nothing. A product of a dot with powers of two followed by another
    product is one product with the powers' share moved over, as long as nothing leaves float32's
    normal range: scaling by a power of two commutes with rounding there.

    Args:
        steps: first to last, on integers of at most 2^24.
    """
    fewer = list(steps)
    if len(fewer) > 1 and fewer[0].kind == fewer[1].kind == "multiply":
        first, second = fewer[0].vector, fewer[1].vector
        with np.errstate(all="ignore"):
            merged = first * second
        if _powers_commute(first, second, merged):
            fewer[:2] = [Step("multiply", merged)]
    return tuple(s for s in fewer if not (s.kind == "multiply" and np.all(s.values == 1)))


def _powers_commute(powers: Floats, others: Floats, merged: Floats) -> bool:
    mantissa, exponent = np.frexp(powers)
    stays = (exponent + LARGEST_DOT_EXPONENT < 127) & (exponent > -126)
    normal = np.isfinite(merged) & ((np.abs(merged) >= SMALLEST_NORMAL) | (others == 0))
    return bool(np.all((np.abs(mantissa) == 0.5) & stays & normal))
