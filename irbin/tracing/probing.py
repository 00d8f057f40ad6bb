"""Copies of a network set so that what a run shows is no chance of its present numbers.

A norm whose weight starts at zero hides what comes before it; a maximum of many values is hardly
ever negative until an offset, which training learns, makes it so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from timm.layers import (
    Conv2dSame,
    ScaledStdConv2d,
    ScaledStdConv2dSame,
    StdConv2d,
    StdConv2dSame,
)
from timm.layers import Linear as TimmLinear
from torch import Tensor, nn

from irbin.binary.layers import BinaryLayer
from irbin.tracing.tracer import is_norm

FAR = 3.0
"""Standard deviations by which offsets are moved."""

_CONV_FORWARDS = {
    kind.forward
    for kind in (
        nn.Conv2d,
        Conv2dSame,
        StdConv2d,
        StdConv2dSame,
        ScaledStdConv2d,
        ScaledStdConv2dSame,
    )
}
_LINEAR_FORWARDS = {nn.Linear.forward, TimmLinear.forward}

_OFFSETS = ("bias", "offset", "threshold")
"""How parameters that are added, not multiplied, are named."""


def has_plain_forward(layer: nn.Module) -> bool:
    """Whether a layer does what torch's convolution or linear layer does, and nothing more."""
    forward = type(layer).forward
    if isinstance(layer, nn.Conv2d):
        return forward in _CONV_FORWARDS and (type(layer)._conv_forward is nn.Conv2d._conv_forward)
    return forward in _LINEAR_FORWARDS


def randomize_zeros(network: nn.Module, *, offsets: bool) -> None:
    """Draws parameters that are zero throughout from a normal distribution, in place.

    Args:
        network: a copy; the same network gets the same numbers.
        offsets: whether also those that are added.
    """
    generator = torch.Generator().manual_seed(0)
    for name, p in network.named_parameters():
        if (offsets or not name.endswith(_OFFSETS)) and not p.detach().any():
            p.data = torch.randn(p.shape, generator=generator).to(p)


def measure_norms(network: nn.Module) -> None:
    """Has batch norms use the statistics of the batch, in place; their running ones may be old."""
    for m in network.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            m.train()


def norm_exactly(network: nn.Module) -> None:
    """Has group norms of equal numbers give their bias to the bit, in place.

    torch computes x·s + (b − m·s) with s up to 1/√eps, so where every number x is the mean m it
    leaves x/√eps of rounding, which looks like something of the image. Of zeros it is b.
    """
    for m in network.modules():
        if isinstance(m, nn.GroupNorm):
            m.register_forward_pre_hook(_without_equals)


def _without_equals(norm: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    if not args or not isinstance(args[0], Tensor) or args[0].dim() < 2:
        return None
    assert isinstance(norm, nn.GroupNorm), "it is registered at no other"
    x = args[0]
    groups = x.reshape(len(x), norm.num_groups, -1)
    if not groups.numel() or not bool((groups[..., 0] == groups[..., -1]).any()):
        return None  # told without a look at all
    is_equal = (groups == groups[..., :1]).all(-1, keepdim=True)
    return (torch.where(is_equal, 0.0, groups).reshape(x.shape), *args[1:])


def drop_biases(network: nn.Module) -> list[nn.Module]:
    """Makes the biases of convolutions and linear layers zero, in place; returns these layers.

    Without norms a signal fades beside them, layer by layer; without them it keeps its share.
    """
    layers = [
        m
        for m in network.modules()
        if isinstance(m._parameters.get("bias"), Tensor)
        and (isinstance(m, BinaryLayer) or has_plain_forward(m))
    ]
    with torch.no_grad():
        for layer in layers:
            layer.get_parameter("bias").zero_()
    return layers


@contextmanager
def moved(network: nn.Module, offset: float) -> Iterator[None]:
    """Within, all offsets that training learns are `offset` standard deviations of what they move.

    Those of norms are set, and stay so; those of convolutions and linear layers become zero, and
    their outputs, moved while the block runs, keep their size.

    Args:
        network: a copy, changed in place.
        offset: in standard deviations; may be negative.
    """
    layers = drop_biases(network)
    with torch.no_grad():
        for m in filter(is_norm, network.modules()):
            weight, bias = (m._parameters.get(p) for p in ("weight", "bias"))
            if weight is not None and bias is not None:
                bias.copy_(offset * weight.abs())
    handles = [layer.register_forward_hook(_moving(offset)) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _moving(offset: float) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    def move(layer: nn.Module, args: Any, out: Tensor) -> Tensor:  # noqa: ARG001 - a hook's
        return (out + offset * out.std(correction=0)) / math.hypot(1, offset)

    return move
