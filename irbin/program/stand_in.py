"""irbin's operators as torch can run them, in floats: slow, for checks of what was exported.

`torch.export` needs no more than their shapes (`freeze.py`), and a packed network runs the kernels.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from irbin.bits import pack, unpack
from irbin.program.freeze import SHAPES


def bitpack(x: Tensor, channel_axis: int, groups: int) -> Tensor:
    """(…, channels, …) to uint8 (…, groups · bytes): the channels' bits, moved last."""
    x = x.movedim(channel_axis, -1)
    parts = x.reshape(*x.shape[:-1], groups, -1)
    return torch.from_numpy(pack(parts.numpy())).flatten(-2)


def _signs(bits: Tensor, channels: int, groups: int = 1) -> Tensor:
    """(..., groups · bytes) to −1/+1, (..., channels)."""
    parts = bits.reshape(*bits.shape[:-1], groups, -1).contiguous().numpy()
    return torch.from_numpy(unpack(parts, channels // groups)).flatten(-2)


def _scaled(y: Tensor, scale_log2: Tensor | None, bias: Tensor | None) -> Tensor:
    """2^s · y + bias along the last axis."""
    if scale_log2 is not None:
        y = y * scale_log2.float().exp2()
    return y if bias is None else y + bias


def bconv2d(
    bits: Tensor,
    weight_bits: Tensor,
    scale_log2: Tensor | None,
    bias: Tensor | None,
    in_channels: int,
    stride: list[int],
    border: list[int],
    dilation: list[int],
    groups: int,
) -> Tensor:
    """uint8 (batch, height, width, groups · bytes) to (batch, out_channels, …)."""
    x = F.pad(_signs(bits, in_channels, groups).movedim(-1, 1), border)
    weight = _signs(weight_bits, in_channels // groups).movedim(-1, 1)
    y = F.conv2d(x, weight, None, stride, 0, dilation, groups)
    return _scaled(y.movedim(1, -1), scale_log2, bias).movedim(-1, 1).contiguous()


def bgemm(
    bits: Tensor,
    weight_bits: Tensor,
    scale_log2: Tensor | None,
    bias: Tensor | None,
    in_features: int,
) -> Tensor:
    """uint8 (…, bytes) to (…, out_features)."""
    y = F.linear(_signs(bits, in_features), _signs(weight_bits, in_features))
    return _scaled(y, scale_log2, bias)


def bitunpack(weight_bits: Tensor, scale_log2: Tensor | None, in_channels: int) -> Tensor:
    """uint8 (out_channels, …, bytes) to float32 (out_channels, in_channels, …)."""
    signs = _signs(weight_bits, in_channels)
    signs = signs.movedim(-1, 1) if signs.dim() > 2 else signs
    return _scaled(signs.movedim(0, -1), scale_log2, None).movedim(-1, 0).contiguous()


_RUN: dict[str, Callable[..., Tensor]] = {
    "bitpack": bitpack,
    "bconv2d": bconv2d,
    "bgemm": bgemm,
    "bitunpack": bitunpack,
}
_LIBRARY = torch.library.Library("irbin", "IMPL")  # type: ignore[no-untyped-call]
"""Forgets what it holds when it is gone."""


@functools.cache
def register() -> None:
    """Lets torch run irbin's operators in this process."""
    for name in SHAPES:
        _LIBRARY.impl(name, _RUN[name], "CPU")  # type: ignore[no-untyped-call]
