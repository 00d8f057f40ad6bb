"""Convolutions, poolings, padding and resizing in ONNX."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from irbin.onnx.call import Call, Rule
from irbin.onnx.graph import ABSENT, Unwritable


def _conv(call: Call) -> str:
    n = call.rank("weight") - 2
    dilation, stride = call.numbers("dilation", n, 1), call.numbers("stride", n, 1)
    kernel = [call.static("weight", axis) for axis in range(2, 2 + n)]
    pads = _conv_pads(call, kernel, dilation)
    return call.graph.add(
        "Conv",
        *_read(call, n),
        dilations=list(dilation),
        group=call.number("groups", 1),
        pads=pads,
        strides=list(stride),
    )


def _conv_pads(call: Call, kernel: Sequence[int], dilation: Sequence[int]) -> list[int]:
    padding = call.number("padding", 0)
    if padding == "same":
        both = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return [size // 2 for size in both] + [size - size // 2 for size in both]
    if padding == "valid":
        return [0] * 2 * len(kernel)
    return [*call.numbers("padding", len(kernel))] * 2


def _read(call: Call, n: int) -> list[str]:
    """Images, weight and bias of a convolution over n axes."""
    if call.rank("input") != n + 2:
        raise Unwritable("images without a batch")
    bias = [call.tensor("bias")] if call.has("bias") else []
    return [call.tensor("input"), call.tensor("weight"), *bias]


def _conv_transpose(call: Call) -> str:
    return call.graph.add(
        "ConvTranspose",
        *_read(call, 2),
        dilations=list(call.numbers("dilation", 2, 1)),
        group=call.number("groups", 1),
        output_padding=list(call.numbers("output_padding", 2)),
        pads=[*call.numbers("padding", 2)] * 2,
        strides=list(call.numbers("stride", 2, 1)),
    )


class _Window:
    """A pooling's window; torch's `ceil_mode` as padding behind, which both read alike."""

    def __init__(self, call: Call, n: int, dilated: bool = False) -> None:
        if call.rank() != n + 2:
            raise Unwritable("images without a batch")
        self.kernel = call.numbers("kernel_size", n)
        self.stride = call.numbers("stride", n) if call.number("stride") else self.kernel
        self.padding = call.numbers("padding", n)
        self.dilation = call.numbers("dilation", n, 1) if dilated else (1,) * n
        self.behind, self.beyond = [], False
        for axis in range(n):
            size, result = call.static("self", axis + 2), call.type.shape[axis + 2]
            if not isinstance(result, int):
                raise Unwritable("a window along the axis of the images")
            reach = (result - 1) * self.stride[axis]
            reach += self.dilation[axis] * (self.kernel[axis] - 1) + 1
            needed = reach - size - self.padding[axis]
            self.behind.append(max(needed, 0))
            self.beyond |= needed > self.padding[axis]

    @property
    def pads(self) -> list[int]:
        return [*self.padding, *self.behind]


def _max_pool(call: Call) -> str:
    window = _Window(call, 2, dilated=True)
    return call.graph.add(
        "MaxPool",
        call.tensor(),
        dilations=list(window.dilation),
        kernel_shape=list(window.kernel),
        pads=window.pads,
        strides=list(window.stride),
    )


def _avg_pool(n: int) -> Rule:
    def rule(call: Call) -> str:
        if call.has("divisor_override"):
            raise Unwritable("`divisor_override`")
        window, x = _Window(call, n), call.tensor()
        pads, counts = window.pads, call.number("count_include_pad", True)
        if counts and window.beyond and any(window.padding):
            # zeros of the padding are counted, what `ceil_mode` adds behind them is not
            ends = [0, 0, *window.padding] * 2
            x = call.graph.add("Pad", x, call.graph.integers(ends), mode="constant")
            behind = zip(window.behind, window.padding, strict=True)
            pads, counts = [0] * n + [max(b - p, 0) for b, p in behind], False
        return call.graph.add(
            "AveragePool",
            x,
            count_include_pad=int(counts and not window.beyond),
            kernel_shape=list(window.kernel),
            pads=pads,
            strides=list(window.stride),
        )

    return rule


def _adaptive_avg(n: int) -> Rule:
    def rule(call: Call) -> str:
        if call.rank() != n + 2:
            raise Unwritable("images without a batch")
        wanted = call.numbers("output_size", n)
        if wanted == (1,) * n:
            return call.graph.add("GlobalAveragePool", call.tensor())
        x = call.tensor()
        for axis, count in enumerate(wanted):
            matrix = averaging(call.static("self", axis + 2), count)
            if axis == n - 1:
                x = call.graph.add("MatMul", x, call.graph.constant(matrix.T))
            else:
                x = call.graph.add("MatMul", call.graph.constant(matrix), x)
        return x

    return rule


def averaging(size: int, count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """The matrix (count, size) that averages an axis adaptively, as torch cuts it."""
    matrix = np.zeros((count, size), np.float32)
    for i in range(count):
        begin, end = i * size // count, -(-(i + 1) * size // count)
        matrix[i, begin:end] = 1 / (end - begin)
    return matrix


def _adaptive_max(call: Call) -> tuple[str | None, ...]:
    """Values; where they were found is not written."""
    wanted = call.numbers("output_size", 2)
    size = [call.static("self", axis) for axis in (2, 3)]
    if wanted == (1, 1):
        return call.graph.add("GlobalMaxPool", call.tensor()), None
    if any(s % w for s, w in zip(size, wanted, strict=True)):
        raise Unwritable(f"maxima of {size} pixels in {list(wanted)} parts of different sizes")
    step = [s // w for s, w in zip(size, wanted, strict=True)]
    return call.graph.add("MaxPool", call.tensor(), kernel_shape=step, strides=step), None


def _ends(pad: Sequence[int], rank: int) -> list[int]:
    """torch's pairs, last axis first, as ONNX's starts and ends."""
    pairs = [(pad[i], pad[i + 1]) for i in range(0, len(pad), 2)]
    pairs += [(0, 0)] * (rank - len(pairs))
    return [begin for begin, _ in reversed(pairs)] + [end for _, end in reversed(pairs)]


def _padded(call: Call, mode: str, pad: Sequence[int], value: float = 0.0) -> str:
    modes = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}
    if mode not in modes:
        raise Unwritable(f"padding that is {mode}")
    ends = call.graph.integers(_ends(pad, call.rank()))
    filling = [call.scalar(value, call.type.dtype)] if mode == "constant" and value else []
    return call.graph.add("Pad", call.tensor(), ends, *filling, mode=modes[mode])


def _pad(call: Call) -> str:
    pad = call.number("pad")
    if not all(isinstance(one, int) for one in pad):
        raise Unwritable("`pad` depends on the images")
    value = call.number("value", 0.0)
    return _padded(call, call.number("mode", "constant"), pad, value or 0.0)


def _border(mode: str) -> Rule:
    return lambda call: _padded(call, mode, call.numbers("padding", 4))


def _nearest(call: Call) -> str:
    return _resized(
        call, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
    )


def _smooth(mode: str, **attributes: float) -> Rule:
    def rule(call: Call) -> str:
        grid = "align_corners" if call.number("align_corners") else "half_pixel"
        if grid == "half_pixel" and mode == "linear":
            grid = "pytorch_half_pixel"
        return _resized(call, mode=mode, coordinate_transformation_mode=grid, **attributes)

    return rule


def _resized(call: Call, **attributes: str | float) -> str:
    """To the declared size; a factor that gives it only rounded would mean other places."""
    factors = call.number("scale_factors")
    sizes = [call.static("input", axis) for axis in range(2, call.rank("input"))]
    for size, result, factor in zip(sizes, call.type.shape[2:], factors or (), strict=False):
        if not (isinstance(result, int) and math.isclose(size * factor, result)):
            raise Unwritable(f"a factor {factor} of {size} pixels")
    shape = call.graph.shape(call.type.shape)
    return call.graph.add("Resize", call.tensor("input"), ABSENT, ABSENT, shape, **attributes)


def _shuffled(call: Call) -> str:
    by = call.number("upscale_factor")
    return call.graph.add("DepthToSpace", call.tensor(), blocksize=by, mode="CRD")


def _unshuffled(call: Call) -> str:
    by = call.number("downscale_factor")
    n, channels, height, width = call.sizes()
    if not (isinstance(height, int) and isinstance(width, int) and isinstance(channels, int)):
        raise Unwritable("sizes that depend on the batch")
    parts = (n, channels, height // by, by, width // by, by)
    x = call.graph.reshaped(call.tensor(), parts)
    x = call.graph.add("Transpose", x, perm=[0, 1, 3, 5, 2, 4])
    return call.graph.reshaped(x, call.type.shape)


RULES: dict[str, Callable[[Call], str | tuple[str | None, ...]]] = {
    "aten.adaptive_avg_pool1d.default": _adaptive_avg(1),
    "aten.adaptive_avg_pool2d.default": _adaptive_avg(2),
    "aten.adaptive_max_pool2d.default": _adaptive_max,
    "aten.avg_pool1d.default": _avg_pool(1),
    "aten.avg_pool2d.default": _avg_pool(2),
    "aten.avg_pool3d.default": _avg_pool(3),
    "aten.constant_pad_nd.default": _pad,
    "aten.conv1d.default": _conv,
    "aten.conv2d.default": _conv,
    "aten.conv2d.padding": _conv,
    "aten.conv3d.default": _conv,
    "aten.conv_transpose2d.input": _conv_transpose,
    "aten.max_pool2d.default": _max_pool,
    "aten.pad.default": _pad,
    "aten.pixel_shuffle.default": _shuffled,
    "aten.pixel_unshuffle.default": _unshuffled,
    "aten.reflection_pad2d.default": _border("reflect"),
    "aten.replication_pad2d.default": _border("replicate"),
    "aten.upsample_bicubic2d.vec": _smooth("cubic", cubic_coeff_a=-0.75),
    "aten.upsample_bilinear2d.vec": _smooth("linear"),
    "aten.upsample_linear1d.vec": _smooth("linear"),
    "aten.upsample_nearest2d.vec": _nearest,
}
"""By operator."""
