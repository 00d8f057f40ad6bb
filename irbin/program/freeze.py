"""Binary layers with their weights frozen to bits: what `torch.export` sees of them.

Each calls irbin's operators, registered here with torch by name and shape alone: torch traces them,
`runtime` runs them. Latent weights are gone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irbin.bits import pack, packed_bytes
from irbin.border import Border
from irbin.program.vocabulary import signatures


class ConvGeometry(NamedTuple):
    """How a convolution walks over its input."""

    border: Callable[[int, int], Border]
    """Padding of an input of some height and width."""
    padding_mode: str
    """torch's; anything but zeros pads the float input, since a copied pixel has a sign."""
    stride: tuple[int, ...]
    """(vertical, horizontal)."""
    dilation: tuple[int, ...]
    """(vertical, horizontal)."""
    groups: int
    """Of channels."""


class FrozenLayer(nn.Module):
    """Bits, scale and bias of one layer, named and shaped as in the packed file; abstract.

    Args:
        signs: −1/+1, (out_channels, in_channels / groups, kernel_height, kernel_width) or
            (out_features, in_features).
        scale: (out_channels,), powers of two unless `keep_scale`.
        bias: (out_channels,) or None.
        keep_scale: store the scale as float32 and multiply by it, instead of as an exponent.
        n_after: axes after the channels that a kept scale broadcasts over.

    Attributes:
        bits: uint8, `signs` packed along input channels, which moved innermost.
        scale_log2: int8 (out_channels,), or None with `keep_scale`.
        scale: float32 (out_channels, 1, …), or None without `keep_scale`.
        bias: float32 (out_channels,), or None.
    """

    bits: Tensor
    scale_log2: Tensor | None
    scale: Tensor | None
    bias: Tensor | None

    def __init__(
        self, signs: Tensor, scale: Tensor, bias: Tensor | None, *, keep_scale: bool, n_after: int
    ) -> None:
        super().__init__()
        after = [1] * n_after
        # some networks' code asks a layer's weight for its device or type (xcit, edgenext)
        self.weight = torch.empty(0)
        self.register_buffer("bits", torch.from_numpy(pack(signs.movedim(1, -1).numpy())))
        self.register_buffer("scale_log2", None if keep_scale else exponents(scale))
        self.register_buffer("scale", scale.reshape(-1, *after) if keep_scale else None)
        self.register_buffer("bias", None if bias is None else bias.detach().clone())


class PackedLayer(FrozenLayer):
    """A layer that computes on bits, 1w1a; abstract.

    Args:
        signs: see `FrozenLayer`.
        scale: see `FrozenLayer`.
        bias: see `FrozenLayer`.
        threshold: (in_channels,), subtracted before the sign; None for none.
        keep_scale: see `FrozenLayer`.
        n_after: see `FrozenLayer`; of inputs as of outputs.

    Attributes:
        threshold: float32 (in_channels, 1, …), or None.
    """

    threshold: Tensor | None

    def __init__(
        self,
        signs: Tensor,
        scale: Tensor,
        bias: Tensor | None,
        threshold: Tensor | None,
        *,
        keep_scale: bool,
        n_after: int,
    ) -> None:
        super().__init__(signs, scale, bias, keep_scale=keep_scale, n_after=n_after)
        if threshold is not None:
            threshold = threshold.detach().reshape(-1, *[1] * n_after).clone()
        self.register_buffer("threshold", threshold)

    def shifted(self, x: Tensor) -> Tensor:
        """x − θ, what the sign is taken of; the shape of x."""
        return x if self.threshold is None else x - self.threshold

    def integer_bias(self) -> Tensor | None:
        """The bias, where irbin's operator adds it: only after an exponent."""
        return self.bias if self.scale is None else None

    def transformed(self, y: Tensor) -> Tensor:
        """A kept scale and the bias after it; (batch, out_channels, …) or (…, out_features)."""
        if self.scale is None:
            return y
        y = y * self.scale
        return y if self.bias is None else y + self.bias.view_as(self.scale)


class PackedConv2d(PackedLayer):
    """bitpack, then bconv2d; (batch, in_channels, height, width) to (batch, out_channels, …)."""

    def __init__(
        self,
        signs: Tensor,
        scale: Tensor,
        bias: Tensor | None,
        threshold: Tensor | None,
        geometry: ConvGeometry,
        *,
        keep_scale: bool,
    ) -> None:
        super().__init__(signs, scale, bias, threshold, keep_scale=keep_scale, n_after=2)
        self.geometry, self.in_channels = geometry, signs.shape[1] * geometry.groups

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102 - shapes in the class docstring
        x, border = pad(self.shifted(x), self.geometry)
        _, _, stride, dilation, groups = self.geometry
        y: Tensor = torch.ops.irbin.bconv2d(
            torch.ops.irbin.bitpack(x, 1, groups),
            self.bits,
            self.scale_log2,
            self.integer_bias(),
            self.in_channels,
            list(stride),
            list(border),
            list(dilation),
            groups,
        )
        return self.transformed(y)


class PackedLinear(PackedLayer):
    """bitpack, then bgemm; maps (..., in_features) to (..., out_features)."""

    def __init__(
        self,
        signs: Tensor,
        scale: Tensor,
        bias: Tensor | None,
        threshold: Tensor | None,
        *,
        keep_scale: bool,
    ) -> None:
        super().__init__(signs, scale, bias, threshold, keep_scale=keep_scale, n_after=0)
        self.in_features = signs.shape[1]

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102 - shapes in the class docstring
        bits = torch.ops.irbin.bitpack(self.shifted(x), x.dim() - 1, 1)
        y: Tensor = torch.ops.irbin.bgemm(
            bits, self.bits, self.scale_log2, self.integer_bias(), self.in_features
        )
        return self.transformed(y)


class UnpackedLayer(FrozenLayer):
    """A float convolution or linear layer whose weight is unpacked from bits first: 1w32a.

    Args:
        signs: see `FrozenLayer`.
        scale: see `FrozenLayer`.
        bias: see `FrozenLayer`.
        geometry: of the convolution; None for a linear layer.
        keep_scale: see `FrozenLayer`.
    """

    def __init__(
        self,
        signs: Tensor,
        scale: Tensor,
        bias: Tensor | None,
        geometry: ConvGeometry | None,
        *,
        keep_scale: bool,
    ) -> None:
        super().__init__(signs, scale, bias, keep_scale=keep_scale, n_after=signs.dim() - 1)
        self.geometry, self.group_channels = geometry, signs.shape[1]

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102 - as the trained layer
        weight: Tensor = torch.ops.irbin.bitunpack(self.bits, self.scale_log2, self.group_channels)
        if self.scale is not None:
            weight = weight * self.scale
        if self.geometry is None:
            return F.linear(x, weight, self.bias)
        _, _, stride, dilation, groups = self.geometry
        x, (left, right, top, bottom) = pad(x, self.geometry)
        if left != right or top != bottom:
            x, left, top = F.pad(x, (left, right, top, bottom)), 0, 0
        return F.conv2d(x, weight, self.bias, stride, (top, left), dilation, groups)


def pad(x: Tensor, geometry: ConvGeometry) -> tuple[Tensor, Border]:
    """The input with every padding done but zeros, and the zero padding left to do."""
    border = geometry.border(x.shape[-2], x.shape[-1])
    if geometry.padding_mode == "zeros":
        return x, border
    return F.pad(x, border, geometry.padding_mode) if any(border) else x, (0, 0, 0, 0)


def exponents(scale: Tensor) -> Tensor:
    """s of a scale 2^s, int8; (out_channels,) to (out_channels,).

    Raises:
        ValueError: a scale is no power of two that int8 and a normal float32 both hold.
    """
    mantissa, exponent = torch.frexp(scale)  # scale = mantissa · 2^exponent, mantissa ∈ [½, 1)
    log2 = exponent - 1
    if not bool(((mantissa == 0.5) & (log2 >= -126) & (log2 <= 127)).all()):
        raise ValueError("expected scales 2^s with −126 ≤ s ≤ 127")
    return log2.to(torch.int8)


def _fake_bitpack(x: Tensor, channel_axis: int, groups: int) -> Tensor:
    outer = [*x.shape[:channel_axis], *x.shape[channel_axis + 1 :]]
    innermost = groups * packed_bytes(x.shape[channel_axis] // groups)
    return x.new_empty([*outer, innermost], dtype=torch.uint8)


def _fake_bconv2d(
    bits: Tensor,
    weight_bits: Tensor,
    scale_log2: Tensor | None,  # noqa: ARG001
    bias: Tensor | None,  # noqa: ARG001
    in_channels: int,  # noqa: ARG001
    stride: list[int],
    border: list[int],
    dilation: list[int],
    groups: int,  # noqa: ARG001
) -> Tensor:
    sizes = []
    for axis, padding in ((0, border[2] + border[3]), (1, border[0] + border[1])):
        reach = (weight_bits.shape[1 + axis] - 1) * dilation[axis] + 1
        sizes.append((bits.shape[1 + axis] + padding - reach) // stride[axis] + 1)
    shape = [bits.shape[0], weight_bits.shape[0], *sizes]
    return bits.new_empty(shape, dtype=torch.float32)


def _fake_bgemm(
    bits: Tensor,
    weight_bits: Tensor,
    scale_log2: Tensor | None,  # noqa: ARG001
    bias: Tensor | None,  # noqa: ARG001
    in_features: int,  # noqa: ARG001
) -> Tensor:
    return bits.new_empty([*bits.shape[:-1], weight_bits.shape[0]], dtype=torch.float32)


def _fake_bitunpack(weight_bits: Tensor, scale_log2: Tensor | None, in_channels: int) -> Tensor:  # noqa: ARG001
    n_out, *kernel = weight_bits.shape[:-1]
    return weight_bits.new_empty([n_out, in_channels, *kernel], dtype=torch.float32)


SHAPES: dict[str, Callable[..., Tensor]] = {
    "bitpack": _fake_bitpack,
    "bconv2d": _fake_bconv2d,
    "bgemm": _fake_bgemm,
    "bitunpack": _fake_bitunpack,
}
"""What torch is told of a result: an empty tensor of its type and shape, by operator."""


def _register() -> None:
    for name, fake in SHAPES.items():
        arguments = ", ".join(f"{one.kind} {one.name}" for one in signatures()[name])
        torch.library.define(f"irbin::{name}", f"({arguments}) -> Tensor")
        torch.library.register_fake(f"irbin::{name}", fake)


_register()
