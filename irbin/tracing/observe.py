"""What runs show of the layers' inputs: can they be negative, do they depend on the image at all?

On random images for layers that tracing does not see, on real ones wherever calibration data is
given: a sign that is the same for every input makes a layer whose output does not depend on it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from irbin.binary.layers import BinaryLayer
from irbin.copies import copied
from irbin.errors import ConvertError

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
    is_constant: bool = True
    """The same for different images."""


def observe(
    module: nn.Module, names: list[str], input_size: tuple[int, int, int]
) -> dict[str, Observed]:
    """Runs a copy of `module` in evaluation mode on batches of random images, always the same.

    Two, and more until every layer has seen both signs or `MIN_SIGNS` of one.

    Args:
        module: any network that runs on the CPU; left alone.
        names: the layers to watch, all of which run.
        input_size: (channels, height, width).
    """
    if not names:
        return {}
    network = copied(module).cpu().float().eval()
    found = {name: Observed() for name in names}
    inputs: dict[str, list[Tensor]] = {name: [] for name in names}

    def watch(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def note(layer: nn.Module, args: tuple[Any, ...]) -> None:  # noqa: ARG001 - a hook's
            x = args[0].detach()
            found[name].signs.add(x)
            if n_runs < 2:
                inputs[name].append(x.clone())  # what follows may work in place

        return note

    for name in names:
        network.get_submodule(name).register_forward_pre_hook(watch(name))
    generator, n_runs = torch.Generator().manual_seed(0), 0
    with torch.no_grad():
        while n_runs < 2 or (n_runs < _MAX_RUNS and not all(map(_is_told, found.values()))):
            network(torch.randn(_BATCH, *input_size, generator=generator))
            n_runs += 1
    for name, seen in inputs.items():
        half = len(seen) // 2  # a second run makes the same calls
        pairs = list(zip(seen[:half], seen[half:], strict=False))
        found[name].is_constant = all(torch.equal(one, other) for one, other in pairs)
    return found


def _is_told(seen: Observed) -> bool:
    return seen.signs.is_mixed or seen.signs.n_signs >= MIN_SIGNS


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


def check_signs(counts: dict[str, SignCount], n_images: int) -> None:
    """Refuses binary layers whose input had one sign on all calibration images.

    A layer whose input hardly ever has the other sign is logged as a warning.

    Args:
        counts: from `counting_signs`.
        n_images: how many images that were.

    Raises:
        ConvertError: names the layers to keep float.
    """
    large = {name: c for name, c in counts.items() if c.n_signs >= MIN_SIGNS}
    constant = [name for name, c in large.items() if c.always]
    if constant:
        always = large[constant[0]].always
        more = f" ({len(constant)} such layers)" if len(constant) > 1 else ""
        flags = " ".join(f"--keep '{name}'" for name in constant)
        raise ConvertError(
            f"`{constant[0]}`: on {n_images} calibration images its input was {always}, so its "
            f"output does not depend on it{more}; keep it float with {flags}"
        )
    for name, c in large.items():
        share = min(c.n_negative, c.n_signs - c.n_negative) / c.n_signs
        if share < FEW_NEGATIVE:
            _LOG.warning(
                "`%s`: only %.2g %% of its input on %d calibration images has the other sign, so "
                "it learns little; consider `--keep '%s'`", name, 100 * share, n_images, name,
            )  # fmt: skip
