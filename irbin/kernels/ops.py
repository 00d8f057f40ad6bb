"""The operators of `docs/format.md` on arrays, on whichever implementation is active."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from irbin.bits import packed_bytes
from irbin.border import Border
from irbin.bounds import MAX_DEPTH_BITS, MAX_INTEGER, MAX_THREADS
from irbin.errors import UsageError
from irbin.kernels import native, reference
from irbin.kernels.convolution import ConvKernel, dot_steps, linear_kernel
from irbin.kernels.geometry import Geometry
from irbin.kernels.kernel import address, check_array, check_integer, check_is_array
from irbin.kernels.passes import RowsKernel
from irbin.kernels.reference import Bits
from irbin.kernels.steps import Floats


def bitpack(x: Floats, channel_axis: int, groups: int = 1, n_threads: int = 1) -> Bits:
    """`reference.bitpack` on the active implementation.

    Packs along the last axis and along axis 1 of (batch, channels, …) natively; other axes are
    brought into order first.

    Args:
        x: float32, any shape and strides, channels on `channel_axis`.
        channel_axis: counted from 0.
        groups: each group of channels starts on a byte of its own.
        n_threads: at most so many.

    Raises:
        UsageError: x is not float32, has no such axis, or its channels do not divide by groups.
    """
    if not isinstance(x, np.ndarray) or x.dtype != np.float32:
        got = x.dtype if isinstance(x, np.ndarray) else type(x).__name__
        raise UsageError(f"`x`: expected float32, got {got}")
    channel_axis = check_integer("channel_axis", channel_axis, -MAX_INTEGER, MAX_INTEGER)
    groups = check_integer("groups", groups, -MAX_INTEGER, MAX_INTEGER)
    n_threads = check_integer("n_threads", n_threads, -MAX_THREADS, MAX_THREADS)
    if not 0 <= channel_axis < x.ndim or groups < 1 or x.shape[channel_axis] % groups:
        raise UsageError(
            f"`x`: expected channels on axis {channel_axis} in {groups} groups, got {x.shape}"
        )
    n_channels = x.shape[channel_axis]
    x = np.require(x, requirements="A")
    if not native.is_native() or not n_channels or (groups > 1 and n_channels // groups % 8):
        return reference.bitpack(x, channel_axis, groups)
    outer = (*x.shape[:channel_axis], *x.shape[channel_axis + 1 :])
    bits = np.empty((*outer, packed_bytes(n_channels)), np.uint8)
    if channel_axis == 1 and x.flags.c_contiguous and x.ndim > 2:
        n_pixels = x[0, 0].size if len(x) else 0
        planes = native.module().planes(n_channels, n_pixels)
        planes.run(address(x), len(x), [], 0, address(bits), n_threads, False)
        return bits
    rows = np.ascontiguousarray(np.moveaxis(x, channel_axis, -1)).reshape(-1, n_channels)
    RowsKernel(n_channels)(rows, (), None, bits.reshape(-1, bits.shape[-1]), n_threads)
    return bits


def bconv2d(
    bits: Bits,
    weight_bits: Bits,
    scale_log2: NDArray[np.int8] | None,
    bias: Floats | None,
    in_channels: int,
    stride: tuple[int, int] = (1, 1),
    border: Border = (0, 0, 0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    n_threads: int = 1,
) -> Floats:
    """`reference.bconv2d` on the active implementation; the arguments are the same.

    Raises:
        UsageError: an array has another type or shape, or is not contiguous or aligned.
    """
    check_is_array("bits", bits)
    check_is_array("weight_bits", weight_bits)
    if bits.ndim != 4 or weight_bits.ndim != 4:
        raise UsageError(f"expected 4 axes, got bits {bits.shape}, weight {weight_bits.shape}")
    geometry = Geometry(
        (bits.shape[1], bits.shape[2]),
        (weight_bits.shape[1], weight_bits.shape[2]),
        stride,
        border,
        dilation,
    )
    steps = dot_steps(scale_log2, bias)
    kernel = ConvKernel(weight_bits, geometry, in_channels, groups, steps)
    y = np.empty((len(bits), *kernel.geometry.out_size, len(weight_bits)), np.float32)
    kernel(bits, (), y, None, n_threads)
    return np.moveaxis(y, -1, 1)


def bgemm(
    bits: Bits,
    weight_bits: Bits,
    scale_log2: NDArray[np.int8] | None,
    bias: Floats | None,
    in_features: int,
    n_threads: int = 1,
) -> Floats:
    """`reference.bgemm` on the active implementation; the arguments are the same.

    Raises:
        UsageError: an array has another type or shape, or is not contiguous or aligned.
    """
    check_is_array("bits", bits)
    check_is_array("weight_bits", weight_bits)
    if weight_bits.ndim != 2 or bits.ndim < 1:
        raise UsageError(f"expected rows of bits, got {bits.shape} and {weight_bits.shape}")
    in_features = check_integer("in_features", in_features, 1, MAX_DEPTH_BITS)
    kernel = linear_kernel(weight_bits, in_features, dot_steps(scale_log2, bias))
    check_array("bits", bits, np.uint8, (*bits.shape[:-1], packed_bytes(in_features)))
    y = np.empty((*bits.shape[:-1], len(weight_bits)), np.float32)
    kernel(
        bits.reshape(-1, 1, 1, bits.shape[-1]),
        (),
        y.reshape(-1, 1, 1, y.shape[-1]),
        None,
        n_threads,
    )
    return y
