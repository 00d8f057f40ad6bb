"""The specification of irbin's own operators, in plain NumPy, computed on the bits.

Every other implementation must equal this one exactly; `docs/format.md` says the same in words. It
is fast enough to evaluate a test set (words of 64 signs, blocks that fit the cache), and no faster.

The arithmetic, with K the number of ±1 products inside the image (fewer at a padded border):

1. disagreements = popcount(activations xor weights), an integer in [0, K];
2. dot = K − 2·disagreements, in [−K, K]; int32, so exact for every K < 2^31;
3. y = float32(dot)·2^scale_log2 + bias: a multiplication, then an addition, each rounded to float32
   (the first one is exact while K ≤ 2^24 and nothing leaves float32's range).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from irbin.bits import packed_bytes, unpack
from irbin.border import Border
from irbin.kernels.activations import DEFINITIONS, elu, kept
from irbin.kernels.steps import Step

Bits = NDArray[np.uint8]

WORD_BYTES = 8
BLOCK_WORDS = 1 << 15
"""Words compared at once: 256 KiB of them and 128 KiB of sums stay in a core's second cache."""
PATCH_BYTES = 1 << 23
"""Bytes of unfolded activations held at once."""


def bitpack(x: NDArray[np.floating], channel_axis: int, groups: int = 1) -> Bits:
    """Packs the signs of `x` along its channels, which move innermost.

    Args:
        x: any shape, channels on `channel_axis`; bit = (x < 0), so 0, −0.0 and NaN give +1.
        channel_axis: counted from 0.
        groups: each group of channels starts on a byte of its own.

    Returns:
        uint8: the other axes in order, then groups · ⌈channels / groups / 8⌉ bytes; tail bits zero.
    """
    negative = np.ascontiguousarray(np.moveaxis(x < 0, channel_axis, -1))
    outer, n_channels = negative.shape[:-1], negative.shape[-1]
    per_group = negative.reshape(*outer, groups, n_channels // groups)
    packed = np.packbits(
        per_group, axis=-1, bitorder="little"
    )  # bits.pack on what is compared already
    return packed.reshape(*outer, groups * packed_bytes(n_channels // groups))


def bitunpack(
    weight_bits: Bits, scale_log2: NDArray[np.int8] | None, in_channels: int
) -> NDArray[np.float32]:
    """The float weights behind the bits, ±2^scale_log2, channels back on axis 1.

    Args:
        weight_bits: (out_channels, [kernel_height, kernel_width,] packed_in_channels).
        scale_log2: (out_channels,); None means 0.
        in_channels: of one group.

    Returns:
        float32 (out_channels, in_channels[, kernel_height, kernel_width]).
    """
    signs = np.moveaxis(unpack(weight_bits, in_channels), -1, 1)
    if scale_log2 is None:
        return np.ascontiguousarray(signs)
    return np.ascontiguousarray(signs * _per_channel(_power_of_two(scale_log2), signs.ndim - 1))


def bgemm_dot(bits: Bits, weight_bits: Bits, in_features: int) -> NDArray[np.int32]:
    """Integer dot products of rows of signs.

    Args:
        bits: (..., packed_in_features), tail bits zero.
        weight_bits: (out_features, packed_in_features), tail bits zero.
        in_features: K.

    Returns:
        int32 (..., out_features).
    """
    rows = _to_words(bits.reshape(-1, bits.shape[-1]))
    dot = in_features - 2 * _disagreements(rows, _to_words(weight_bits))  # (out_features, rows)
    return np.ascontiguousarray(dot.T).reshape(*bits.shape[:-1], len(weight_bits))


def bconv2d_dot(
    bits: Bits,
    weight_bits: Bits,
    in_channels: int,
    stride: tuple[int, int] = (1, 1),
    border: Border = (0, 0, 0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> NDArray[np.int32]:
    """Integer convolution of signs; a tap outside the image contributes 0.

    Args:
        bits: (batch, height, width, groups · packed), packed = ⌈in_channels / groups / 8⌉.
        weight_bits: (out_channels, kernel_height, kernel_width, packed).
        in_channels: of all groups together.
        stride: (vertical, horizontal).
        border: zero padding (left, right, top, bottom).
        dilation: (vertical, horizontal).
        groups: output channels of group g see input channels of group g only.

    Returns:
        int32 (batch, out_channels, out_height, out_width).
    """
    n_out, kernel = weight_bits.shape[0], weight_bits.shape[1:3]
    left, right, top, bottom = border
    inside_y = _taps_inside(bits.shape[1], top, bottom, kernel[0], stride[0], dilation[0])
    inside_x = _taps_inside(bits.shape[2], left, right, kernel[1], stride[1], dilation[1])
    inside = inside_y[:, None, :, None] & inside_x[None, :, None, :]  # (out_h, out_w, k_h, k_w)
    depth = in_channels // groups * inside.sum(axis=(2, 3), dtype=np.int32)
    padded = np.pad(bits, ((0, 0), (top, bottom), (left, right), (0, 0)))
    dot = np.empty((len(bits), n_out, *inside.shape[:2]), np.int32)
    for one in range(groups):
        out = slice(one * n_out // groups, (one + 1) * n_out // groups)
        channels = slice(one * weight_bits.shape[3], (one + 1) * weight_bits.shape[3])
        windows = patches(padded[..., channels], inside.shape, stride, dilation)
        excess = _padding_correction(weight_bits[out], inside)
        weights = _to_words(weight_bits[out].reshape(n_out // groups, -1))
        for images in _image_blocks(
            len(bits), weights.shape[0] * inside.shape[0] * inside.shape[1]
        ):
            n_here = images.stop - images.start
            counts = _disagreements(
                _to_words(windows[images].reshape(-1, windows[0, 0, 0].size)), weights
            )
            counts = counts.reshape(n_out // groups, n_here, *inside.shape[:2]).swapaxes(0, 1)
            dot[images, out] = depth - 2 * (counts - excess)
    return dot


def output_transform(
    dot: NDArray[np.int32],
    scale_log2: NDArray[np.int8] | None,
    bias: NDArray[np.float32] | None,
    channel_axis: int,
) -> NDArray[np.float32]:
    """float32(dot)·2^scale_log2 + bias, per channel: a product and a sum, each rounded.

    Args:
        dot: any shape, channels on `channel_axis`.
        scale_log2: (channels,); None means 0.
        bias: (channels,); None adds nothing.
        channel_axis: counted from 0.
    """
    n_after = dot.ndim - 1 - channel_axis
    y = dot.astype(np.float32)
    if scale_log2 is not None:
        y *= _per_channel(_power_of_two(scale_log2), n_after)
    return y if bias is None else y + _per_channel(bias, n_after)


def bgemm(
    bits: Bits,
    weight_bits: Bits,
    scale_log2: NDArray[np.int8] | None,
    bias: NDArray[np.float32] | None,
    in_features: int,
) -> NDArray[np.float32]:
    """`bgemm_dot`, then `output_transform`; float32 (..., out_features)."""
    return output_transform(
        bgemm_dot(bits, weight_bits, in_features), scale_log2, bias, bits.ndim - 1
    )


def bconv2d(
    bits: Bits,
    weight_bits: Bits,
    scale_log2: NDArray[np.int8] | None,
    bias: NDArray[np.float32] | None,
    in_channels: int,
    stride: tuple[int, int] = (1, 1),
    border: Border = (0, 0, 0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> NDArray[np.float32]:
    """`bconv2d_dot`, then `output_transform`; float32 (batch, out_channels, out_height, out_width).

    The arguments are those of the two.
    """
    dot = bconv2d_dot(bits, weight_bits, in_channels, stride, border, dilation, groups)
    return output_transform(dot, scale_log2, bias, channel_axis=1)


def apply_steps(
    y: NDArray[np.float32], steps: Sequence[Step], residuals: Sequence[NDArray[np.float32]]
) -> NDArray[np.float32]:
    """The steps one after the other, each rounded to float32.

    Args:
        y: any shape, channels innermost.
        steps: what to do.
        residuals: what residual steps add, of the shape of y, or with fewer channels.
    """
    held = y
    with np.errstate(all="ignore"):  # infinities and NaN are values like others
        for step in steps:
            if step.kind == "multiply":
                y = y * step.vector
            elif step.kind == "add":
                y = y + step.vector
            elif step.kind == "residual":
                y = y + widened(residuals[step.residual], step, y.shape[-1])
            elif step.kind == "clamp":  # a NaN passes
                y = np.minimum(np.maximum(y, np.float32(step.low)), np.float32(step.high))
            elif step.kind == "prelu":
                y = np.where(y > 0, y, y * step.vector)
            elif step.kind == "elu":
                y = elu(y, step.vector)
            elif step.kind == "hold":
                held = y
            elif step.kind == "keep":
                y = kept(y, held)
            elif step.kind != "write":
                y = DEFINITIONS[step.kind](y)
    return y


def widened(residual: NDArray[np.float32], step: Step, n_channels: int) -> NDArray[np.float32]:
    """A tensor that a residual step adds, with zeros for the channels that it lacks."""
    if not step.channels:
        return residual
    made = np.zeros((*residual.shape[:-1], n_channels), np.float32)
    made[..., step.before : step.before + step.channels] = residual
    return made


def _power_of_two(scale_log2: NDArray[np.int8]) -> NDArray[np.float32]:
    return np.ldexp(np.float32(1), scale_log2.astype(np.int32))


def _per_channel(values: NDArray[np.float32], n_after: int) -> NDArray[np.float32]:
    return values.reshape(-1, *[1] * n_after)


def _to_words(bits: Bits) -> NDArray[np.uint64]:
    """(rows, bytes) as (words, rows); zero bytes fill the last word, so they never disagree."""
    n_rows, n_bytes = bits.shape
    filled = np.zeros((n_rows, packed_bytes(n_bytes) * WORD_BYTES), np.uint8)
    filled[:, :n_bytes] = bits
    return np.ascontiguousarray(filled.view("<u8").T)


def _disagreements(rows: NDArray[np.uint64], weights: NDArray[np.uint64]) -> NDArray[np.int32]:
    """popcount(row xor weight) summed over the words: (words, rows), (words, out) → (out, rows)."""
    n_rows, n_out = rows.shape[1], weights.shape[1]
    total = np.zeros((n_out, n_rows), np.int32)
    step = max(BLOCK_WORDS // max(n_out, 1), 64)
    for first in range(0, n_rows, step):
        block = total[:, first : first + step]
        for row, weight in zip(rows[:, first : first + step], weights, strict=True):
            block += np.bitwise_count(row[None, :] ^ weight[:, None])
    return total


def _taps_inside(
    size: int, before: int, after: int, n_taps: int, step: int, dilation: int
) -> NDArray[np.bool_]:
    """Which taps of which output lie inside the image, along one axis: (outputs, taps)."""
    reach = (n_taps - 1) * dilation + 1
    n_outputs = max((size + before + after - reach) // step + 1, 0)
    position = np.arange(n_outputs)[:, None] * step + np.arange(n_taps) * dilation - before
    return (position >= 0) & (position < size)


Number = TypeVar("Number", np.uint8, np.float32)


def patches(
    padded: NDArray[Number],
    shape: tuple[int, ...],
    stride: tuple[int, int],
    dilation: tuple[int, int],
) -> NDArray[Number]:
    """Every output's taps, a view (batch, out_h, out_w, kernel_h, kernel_w, packed).

    Args:
        padded: (batch, padded_height, padded_width, packed).
        shape: (out_height, out_width, kernel_height, kernel_width).
        stride: (vertical, horizontal).
        dilation: (vertical, horizontal).
    """
    image, down, right, byte = padded.strides
    between: tuple[int, ...] = (
        down * stride[0],
        right * stride[1],
        down * dilation[0],
        right * dilation[1],
    )
    return np.lib.stride_tricks.as_strided(
        padded,
        (len(padded), *shape, padded.shape[3]),
        (image, *between, byte),
        writeable=False,
    )


def _image_blocks(n_images: int, words_per_image: int) -> list[slice]:
    step = max(PATCH_BYTES // (WORD_BYTES * max(words_per_image, 1)), 1)
    return [slice(i, min(i + step, n_images)) for i in range(0, n_images, step)]


def _padding_correction(weights: Bits, inside: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Disagreements counted at taps outside the image, where zero bytes met the weights.

    A padded tap reads as all +1, so it disagrees once per −1 weight of that tap.

    Args:
        weights: (out_channels, kernel_height, kernel_width, packed).
        inside: (out_height, out_width, kernel_height, kernel_width).

    Returns:
        int32 (out_channels, out_height, out_width).
    """
    if inside.all():
        return np.zeros((len(weights), *inside.shape[:2]), np.int32)
    n_negative = np.bitwise_count(weights).sum(axis=3, dtype=np.int32)  # (out, k_h, k_w)
    return np.tensordot(n_negative, (~inside).astype(np.int32), axes=((1, 2), (2, 3)))
