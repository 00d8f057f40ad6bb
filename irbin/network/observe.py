"""What runs show of the layers' inputs: can they be negative, do they depend on the image at all?

On random images for layers that tracing does not see, on real ones wherever calibration data is
given: a sign that is the same for every input makes a layer whose output does not depend on it.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from irbin.binary.layers import BinaryLayer
from irbin.errors import ConvertError

_LOG = logging.getLogger("irbin")

MIN_SIGNS = 256
"""Fewer inputs than this may all be non-negative by chance."""

MIN_ZEROS = 0.01
"""Share of exact zeros that gives a ReLU away; max-pooling alone may leave nothing negative."""

_BATCH = 2


@dataclass
class Observed:
    """What two runs showed of one layer's input."""

    never_negative: bool = True
    """As behind a ReLU in every call: no value below zero, and many exact zeros."""
    is_constant: bool = True
    """The same for different images."""


def looks_rectified(x: Tensor) -> bool:
    """Whether `x` looks like a ReLU's output: never negative and often exactly zero."""
    if x.numel() < MIN_SIGNS or bool((x < 0).any()):
        return False
    return float((x == 0).float().mean()) >= MIN_ZEROS


def observe(
    module: nn.Module, names: list[str], input_size: tuple[int, int, int]
) -> dict[str, Observed]:
    """Runs a copy of `module` in evaluation mode on two batches of random images.

    Args:
        module: any network that runs on the CPU; left alone.
        names: the layers to watch, all of which run.
        input_size: (channels, height, width).
    """
    if not names:
        return {}
    network = copy.deepcopy(module).cpu().float().eval()
    found = {name: Observed() for name in names}
    inputs: dict[str, list[Tensor]] = {name: [] for name in names}

    def watch(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def note(layer: nn.Module, args: tuple[Any, ...]) -> None:  # noqa: ARG001 - a hook's
            x = args[0].detach()
            found[name].never_negative &= looks_rectified(x)
            inputs[name].append(x.clone())  # what follows may work in place

        return note

    for name in names:
        network.get_submodule(name).register_forward_pre_hook(watch(name))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _ in range(2):
            network(torch.randn(_BATCH, *input_size, generator=generator))
    for name, seen in inputs.items():
        half = len(seen) // 2  # a second run makes the same calls
        pairs = list(zip(seen[:half], seen[half:], strict=False))
        found[name].is_constant = all(torch.equal(one, other) for one, other in pairs)
    return found


FEW_NEGATIVE = 0.001
"""Below this share of one sign a layer learns hardly anything from its input: worth a warning."""


@dataclass
class SignCount:
    """The signs of one binary layer's input on calibration images."""

    n_signs: int = 0
    n_negative: int = 0


@contextmanager
def counting_signs(module: nn.Module) -> Iterator[dict[str, SignCount]]:
    """Counts what every layer with binary activations reads while the block runs."""
    counts: dict[str, SignCount] = {}

    def watch(name: str) -> Callable[[BinaryLayer, tuple[Any, ...]], None]:
        def note(layer: BinaryLayer, args: tuple[Any, ...]) -> None:
            x = layer.shifted(args[0].detach())
            count = counts.setdefault(name, SignCount())
            count.n_signs += x.numel()
            count.n_negative += int((x < 0).sum())

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
    constant = [name for name, c in large.items() if c.n_negative in (0, c.n_signs)]
    if constant:
        count = large[constant[0]]
        always = "negative" if count.n_negative else "never negative"
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
