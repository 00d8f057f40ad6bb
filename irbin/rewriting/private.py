"""Whether a network's answers depend on latent weights in any way but through the binary layers.

A recorded run sees who reads a weight, but only in the mode in which it runs, and being watched
changes what torch does: its fused functions step back where hooks are attached. So the latent
weights are made unusable while the layers keep what they computed of them, and the network is run
as users run it. Whatever then answers differently has read them. (Evaluation with gradients is the
recorded run's own mode.)
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from irbin.binary.layers import BinaryLayer, Used
from irbin.errors import ConvertError
from irbin.messages import lacks_memory


class Mode(NamedTuple):
    """One way of running a network."""

    words: str
    training: bool
    context: Callable[[], AbstractContextManager[object]]


MODES = (
    Mode("in evaluation without gradients", False, torch.no_grad),
    Mode("in inference mode", False, torch.inference_mode),
    Mode("in training", True, torch.enable_grad),
)
_EVALUATION = Mode("in evaluation with gradients", False, torch.enable_grad)
"""The recorded run's own mode."""
_FEW = 2
"""Images that tell as much as all, in half the time."""


def check_latent_weights_are_private(
    probe: nn.Module, layers: dict[str, nn.Module], x: Tensor, known: list[Tensor]
) -> None:
    """Runs a converted network in every mode, with its latent weights and with NaN in their place.

    Where evaluation answers the same with NaN as it did with gradients, one run is enough. Of more
    than two images the first two are looked at.

    Args:
        probe: a copy of the network; its hooks on `layers` are removed, its buffers change.
        layers: its binary layers by name.
        x: (batch, channels, height, width), any numbers.
        known: what the network answered to `x` in evaluation with gradients.

    Raises:
        ConvertError: names the layers whose weight is read, and the first mode in which it is.
    """
    binary = {name: layer for name, layer in layers.items() if isinstance(layer, BinaryLayer)}
    for layer in binary.values():
        layer._forward_pre_hooks.clear()
        layer._forward_hooks.clear()
    few = x[:_FEW]
    with_few = _answers(probe, few, _EVALUATION) if len(x) > _FEW else None
    if with_few is not None:
        x, known = few, with_few
    for mode in MODES:
        if not mode.training and not _differs(probe, list(binary.values()), x, mode, known):
            continue
        readable = _differing(probe, binary, x, mode)
        if readable:
            raise ConvertError(
                f"`{readable[0]}`: {mode.words} its float weight is read past the binary layer, so "
                f"the network would answer with float weights ({len(readable)} such layers); keep "
                f"{'them' if len(readable) > 1 else 'it'} float with " + f"`keep={readable}`"
            )


def _differing(
    probe: nn.Module, layers: dict[str, BinaryLayer], x: Tensor, mode: Mode
) -> list[str]:
    """The layers without whose latent weight the network answers differently in `mode`."""
    wanted = _answers(probe, x, mode)
    if wanted is None or not _differs(probe, list(layers.values()), x, mode, wanted):
        return []
    again = _answers(probe, x, mode)
    if again is None or not _same(wanted, again):
        return []  # the network is never the same twice, so nothing can be told
    return [
        name
        for name, layer in layers.items()
        if _differs(probe, _sharing(layer, layers), x, mode, wanted)
    ]


def _sharing(layer: BinaryLayer, layers: dict[str, BinaryLayer]) -> list[BinaryLayer]:
    """The layers with the latent weight of `layer`, itself among them."""
    return [other for other in layers.values() if other.weight is layer.weight]


def _differs(
    probe: nn.Module, layers: list[BinaryLayer], x: Tensor, mode: Mode, wanted: list[Tensor]
) -> bool:
    with _without_latent_weights(layers):
        got = _answers(probe, x, mode)
    return got is None or not _same(wanted, got)


def _answers(probe: nn.Module, x: Tensor, mode: Mode) -> list[Tensor] | None:
    """What the network returns; None where it cannot run, which training says itself."""
    was_training = {m: m.training for m in probe.modules()}
    with torch.random.fork_rng(devices=[]), _other_generators(), mode.context():
        torch.manual_seed(0)
        if mode.training:
            probe.train()
        try:
            returned = probe(x)
        except Exception as error:  # raises whatever the network's own code does
            if lacks_memory(error):
                raise
            return None
        finally:
            for module, training in was_training.items():
                module.training = training
    return [t.detach() for t in tree_leaves(returned) if isinstance(t, Tensor)]


@contextmanager
def _other_generators() -> Iterator[None]:
    """Within, Python's and NumPy's own draw the same numbers each time."""
    pythons, numpys = random.getstate(), np.random.get_state()
    random.seed(0)
    np.random.seed(0)
    try:
        yield
    finally:
        random.setstate(pythons)
        np.random.set_state(numpys)


def _same(one: list[Tensor], other: list[Tensor]) -> bool:
    if [t.shape for t in one] != [t.shape for t in other]:
        return False
    pairs = zip(one, other, strict=True)
    return all(torch.allclose(a, b, rtol=1e-4, atol=1e-6, equal_nan=True) for a, b in pairs)


@contextmanager
def _without_latent_weights(layers: list[BinaryLayer]) -> Iterator[None]:
    """Within, the layers go on with what they computed, and their latent weights are NaN."""
    kept = [layer.weight.detach().clone() for layer in layers]
    with torch.no_grad():
        used = [layer.used() for layer in layers]  # all, before a shared weight is gone
        for layer, (weight, scale) in zip(layers, used, strict=True):
            layer.held = Used(weight.clone(), scale)  # a float weight is the latent one itself
        for layer in layers:
            layer.weight.fill_(torch.nan)
    try:
        yield
    finally:
        with torch.no_grad():
            for layer, weight in zip(layers, kept, strict=True):
                layer.held = None
                layer.weight.copy_(weight)
