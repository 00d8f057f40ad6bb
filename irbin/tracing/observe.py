"""What runs show of the layers' inputs: can they be negative, do they depend on the image at all?

On random images for layers that tracing does not see, on real ones wherever calibration data is
given: a sign that is the same for every input makes a layer whose output does not depend on it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from irbin.binary.layers import BinaryLayer
from irbin.copies import copied
from irbin.errors import ConvertError
from irbin.messages import lacks_memory
from irbin.tracing.probing import (
    FAR,
    drop_biases,
    measure_norms,
    moved,
    norm_exactly,
    randomize_zeros,
)

_LOG = logging.getLogger("irbin")

MIN_SIGNS = 256
"""Fewer inputs than this may all have one sign by chance."""

_BATCH = 2

_MAX_RUNS = 16
"""Of `_BATCH` images, for layers of few inputs; two where every layer has seen enough."""


@dataclass
class SignCount:
    """The signs of one layer's input, over all of its calls."""

    n_signs: int = 0
    n_negative: int = 0

    def add(self, x: Tensor) -> None:
        """Counts one more input, of any shape."""
        self.n_signs += x.numel()
        self.n_negative += int((x < 0).sum())

    @property
    def is_mixed(self) -> bool:
        """Whether both signs were seen."""
        return 0 < self.n_negative < self.n_signs

    @property
    def always(self) -> str:
        """`never negative` or `negative` where that holds of enough inputs to be no chance.

        With or without exact zeros: a pooled ReLU has few, a softplus none.
        """
        if self.is_mixed or self.n_signs < MIN_SIGNS:
            return ""
        return "negative" if self.n_negative else "never negative"


@dataclass
class Observed:
    """What several runs showed of one layer's input."""

    signs: SignCount = field(default_factory=SignCount)
    """Of the network with its own offsets."""
    always: str = ""
    """As `SignCount.always`, whatever norms and biases in front add."""
    is_constant: bool = False
    """The same for different images."""


def observe(
    module: nn.Module,
    names: Collection[str],
    input_size: tuple[int, int, int],
    known: Collection[str] = frozenset(),
) -> dict[str, Observed]:
    """Runs a copy of `module` in evaluation mode on batches of random images, always the same.

    Its batch norms use the batch's statistics: with those of an untrained network a signal fades.

    Two, and more until every layer has seen both signs or `MIN_SIGNS` of one. What then looks
    constant is run again in float64 and without biases, where neither rounding makes images differ
    nor a bias alike, and what has one sign with all offsets moved either way: neither is to be a
    chance of the present weights.

    Args:
        module: any network that runs on the CPU; left alone.
        names: the layers to watch.
        input_size: (channels, height, width).
        known: those of them whose signs are known, so that nobody waits for these.
    """
    known = set(known)
    if not names:
        return {}
    network = copied(module).cpu().float().eval()
    randomize_zeros(network, offsets=True)
    measure_norms(network)
    norm_exactly(network)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first = _Watch(network, names, input_size, known)
        doubtful = first.alike(_NEARLY)
        constant = _constant(network, doubtful, input_size) if doubtful else set()
        always = {n: first.signs[n].always for n in first.signs if n not in known | constant}
        always = _lasting(network, {n: sign for n, sign in always.items() if sign}, input_size)
    return {n: Observed(first.signs[n], always.get(n, ""), n in constant) for n in names}


_NEARLY, _EXACTLY = 3e-4, 1e-9
"""By what share of its largest number an input may differ between images that is called constant:
in float32, to look closer, and in float64. What the images leave of a mean over many tokens is
2e-3 and more. A norm that a network writes itself, x·s + (b − m·s) as torch's group norm, leaves
2e-5·x of rounding over one number x, which is not seen as constant from x = 15 on."""

_KEPT = 4096
"""Numbers of an input that are compared in float32."""


class _Watch:
    """Runs of one network, and what the inputs of some layers were.

    Args:
        network: in the mode that it is to run in.
        names: the layers.
        input_size: (channels, height, width).
        known: layers whose signs are not counted.
        dtype: of the images.
        n_kept: numbers of each input that are compared; all for None.
    """

    def __init__(
        self,
        network: nn.Module,
        names: Collection[str],
        input_size: tuple[int, int, int],
        known: Collection[str] = (),
        dtype: torch.dtype = torch.float32,
        n_kept: int | None = _KEPT,
    ) -> None:
        self.signs = {name: SignCount() for name in names}
        self._inputs: dict[str, tuple[list[Tensor], list[Tensor]]] = {n: ([], []) for n in names}
        self._known, self._n_kept, self._n_runs = known, n_kept, 0
        layers = {name: network.get_submodule(name) for name in names}
        handles = [
            layer.register_forward_pre_hook(self._hook(name), with_kwargs=True)
            for name, layer in layers.items()
        ]
        generator = torch.Generator().manual_seed(0)
        try:
            while self._n_runs < 2 or (self._n_runs < _MAX_RUNS and self._is_untold()):
                network(torch.randn(_BATCH, *input_size, generator=generator).to(dtype))
                self._n_runs += 1
        finally:
            for handle in handles:
                handle.remove()

    def alike(self, tolerance: float) -> set[str]:
        """Layers that ran and whose input was the same in the first two runs."""
        return {
            name
            for name, (one, other) in self._inputs.items()
            if one
            and len(one) == len(other)
            and all(_is_same(a, b, tolerance) for a, b in zip(one, other, strict=True))
        }

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
        def note(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:  # noqa: ARG001 - a hook's
            x = next(t for t in (*args, *kwargs.values()) if isinstance(t, Tensor)).detach()
            if name not in self._known:
                self.signs[name].add(x)
            if self._n_runs < 2:
                flat = x.reshape(-1)
                step = max(flat.numel() // (self._n_kept or flat.numel() or 1), 1)
                self._inputs[name][self._n_runs].append(flat[::step].clone())

        return note

    def _is_untold(self) -> bool:
        counts = (count for name, count in self.signs.items() if name not in self._known)
        return any(0 < c.n_signs < MIN_SIGNS and not c.is_mixed for c in counts)


def _is_same(one: Tensor, other: Tensor, tolerance: float) -> bool:
    if one.shape != other.shape:
        return False
    if one.numel() == 0:
        return True
    return bool((one - other).abs().max() <= tolerance * one.abs().max())


def _constant(
    network: nn.Module, names: Collection[str], input_size: tuple[int, int, int]
) -> set[str]:
    """Which of some layers have inputs that do not depend on the image; the network is changed."""
    drop_biases(network)
    try:
        watch = _Watch(network.double(), names, input_size, names, torch.float64, n_kept=None)
    except Exception as error:  # some make float32 tensors of their own, which do not mix
        if lacks_memory(error):
            raise
        watch = _Watch(network.float(), names, input_size, names, n_kept=None)
        return watch.alike(0.0)
    finally:
        network.float()
    return watch.alike(_EXACTLY)


def _lasting(
    network: nn.Module, always: dict[str, str], input_size: tuple[int, int, int]
) -> dict[str, str]:
    """Those signs that stay, whatever offsets norms and biases have; the network is changed."""
    for offset in (-FAR, FAR):
        if always:
            with moved(network, offset):
                signs = _Watch(network, always, input_size).signs
            always = {n: sign for n, sign in always.items() if signs[n].always == sign}
    return always


FEW_NEGATIVE = 0.001
"""Below this share of one sign a layer learns hardly anything from its input: worth a warning."""


@contextmanager
def counting_signs(module: nn.Module) -> Iterator[dict[str, SignCount]]:
    """Counts what every layer with binary activations reads while the block runs."""
    counts: dict[str, SignCount] = {}

    def watch(name: str) -> Callable[[BinaryLayer, tuple[Any, ...]], None]:
        def note(layer: BinaryLayer, args: tuple[Any, ...]) -> None:
            counts.setdefault(name, SignCount()).add(layer.shifted(args[0].detach()))

        return note

    handles = [
        layer.register_forward_pre_hook(watch(name))
        for name, layer in module.named_modules()
        if isinstance(layer, BinaryLayer) and layer.method.binary_activations
    ]
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()


def check_signs(
    module: nn.Module, counts: dict[str, SignCount], n_images: int, images: Tensor
) -> None:
    """Refuses binary layers whose input had one sign on all calibration images and keeps it.

    Whatever norms and biases in front add, that is: of few images all signs may be alike by chance.
    A layer whose input hardly ever has the other sign is logged as a warning.

    Args:
        module: the converted network; left alone.
        counts: from `counting_signs`.
        n_images: how many images that were.
        images: some of them, (batch, channels, height, width), to run with offsets moved.

    Raises:
        ConvertError: names the layers to keep float.
    """
    large = {name: c for name, c in counts.items() if c.n_signs >= MIN_SIGNS}
    signs = {name: c.always for name, c in large.items() if c.always}
    constant = list(_lasting_in_binary(module, signs, images))
    if constant:
        more = f" ({len(constant)} such layers)" if len(constant) > 1 else ""
        raise ConvertError(
            f"`{constant[0]}`: on {n_images} calibration images its input was "
            f"{signs[constant[0]]}, so its output does not depend on it{more}; keep it float with "
            f"`keep={constant}`"
        )
    for name, c in large.items():
        share = min(c.n_negative, c.n_signs - c.n_negative) / c.n_signs
        if share < FEW_NEGATIVE:
            _LOG.warning(
                "`%s`: %s of its input on %d calibration images has the other sign, so it learns "
                "little%s; consider `keep=['%s']`",
                name,
                f"only {100 * share:.2g} %" if share else "nothing",
                n_images,
                "" if share else " until training moves that",
                name,
            )


def _lasting_in_binary(module: nn.Module, always: dict[str, str], images: Tensor) -> dict[str, str]:
    """Those signs of binary layers' inputs that stay, whatever offsets norms and biases have."""
    if not always:
        return {}
    probe = copied(module).eval()
    measure_norms(probe)
    for offset in (-FAR, FAR):
        with torch.no_grad(), moved(probe, offset), counting_signs(probe) as counts:
            probe(images)
        always = {n: sign for n, sign in always.items() if counts[n].always == sign}
    return always
