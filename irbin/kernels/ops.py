"""The kernels' face: NumPy arrays in and out, every one checked, on whichever code is active.

A kernel is made once for a layer (weights are laid out for the processor) and then called. Calls
with arrays are checked; `run` takes bare addresses, for a caller that planned its buffers.
Activations are channels-last: (batch, height, width, channels), bits innermost in bytes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from irbin.bits import packed_bytes
from irbin.errors import UsageError
from irbin.kernels import float_reference, native, reference
from irbin.kernels.reference import Bits, Border
from irbin.kernels.steps import Floats, Step
from irbin.kernels.thresholds import Thresholds

_KINDS = ("multiply", "add", "residual", "clamp", "prelu")
"""In the order of `StepKind` in csrc/contract.h."""


class Geometry(NamedTuple):
    """How a window walks over an image; pairs are (vertical, horizontal)."""

    size: tuple[int, int]
    """(height, width) of the input."""
    kernel: tuple[int, int]
    """(height, width) of the window."""
    stride: tuple[int, int] = (1, 1)
    """Pixels from window to window."""
    border: Border = (0, 0, 0, 0)
    """Padding (left, right, top, bottom)."""
    dilation: tuple[int, int] = (1, 1)
    """Pixels from tap to tap."""

    @property
    def out_size(self) -> tuple[int, int]:
        """(height, width) of the output."""
        (y, x) = (self._out(axis) for axis in range(2))
        return y, x

    def check(self) -> None:
        """Raises UsageError for sizes that no window has."""
        pairs = (self.size, self.kernel, self.stride, self.dilation)
        if min(map(min, pairs)) < 1 or min(self.border) < 0 or min(self.out_size) < 1:
            raise UsageError(f"expected a window that fits its image, got {self}")

    def axes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """As the extension module takes them."""
        (y, x) = (
            (self.size[i], self.kernel[i], self.stride[i], self.dilation[i], *self._padding(i))
            for i in range(2)
        )
        return y, x

    def _padding(self, axis: int) -> tuple[int, int]:
        left, right, top, bottom = self.border
        return (top, bottom) if axis == 0 else (left, right)

    def _out(self, axis: int) -> int:
        reach = (self.kernel[axis] - 1) * self.dilation[axis] + 1
        return (self.size[axis] + sum(self._padding(axis)) - reach) // self.stride[axis] + 1


class Kernel(ABC):
    """A layer made ready; immutable, callable from any number of threads."""

    n_residuals: int
    _native: Any = None

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = tuple(steps)
        self.n_residuals = 1 + max((s.residual for s in steps if s.kind == "residual"), default=-1)

    def __call__(
        self,
        x: NDArray[Any],
        residuals: Sequence[Floats] = (),
        y: Floats | None = None,
        y_bits: Bits | None = None,
        n_threads: int = 1,
    ) -> None:
        """Computes into `y`, `y_bits` or both.

        Args:
            x: bits or floats, see the class.
            residuals: what residual steps add, of y's shape.
            y: float32 (…, channels), written.
            y_bits: uint8 (…, ⌈channels / 8⌉), signs of y, written.
            n_threads: at most so many.

        Raises:
            UsageError: an array has another type or shape, or is not contiguous or aligned.
        """
        n = self._check_input(x)
        shape = self._out_shape(n)
        bits_shape = (*shape[:-1], packed_bytes(shape[-1]))
        if y is None and y_bits is None:
            raise UsageError("expected `y`, `y_bits` or both, got neither")
        if len(residuals) != self.n_residuals:
            raise UsageError(f"expected {self.n_residuals} residuals, got {len(residuals)}")
        for i, residual in enumerate(residuals):
            _check(f"residuals[{i}]", residual, np.float32, shape)
        if y is not None:
            _check("y", y, np.float32, shape, written=True)
        if y_bits is not None:
            _check("y_bits", y_bits, np.uint8, bits_shape, written=True)
        if native.is_native():
            self.run(
                _address(x), n, [_address(r) for r in residuals],
                0 if y is None else _address(y), 0 if y_bits is None else _address(y_bits),
                n_threads,
            )  # fmt: skip
        else:
            self.define(x, residuals, y, y_bits)

    def run(
        self,
        x: int,
        n: int,
        residuals: Sequence[int],
        y: int,
        y_bits: int,
        n_threads: int,
        planes: bool = False,
    ) -> None:
        """As a call, on addresses that nobody checks; 0 where there is no `y` or `y_bits`.

        With `planes`, a float convolution's input is (batch, channels, height, width).
        """
        self._ready().run(x, n, residuals, y, y_bits, n_threads, planes)

    def define(
        self,
        x: NDArray[Any],
        residuals: Sequence[Floats],
        y: Floats | None,
        y_bits: Bits | None,
    ) -> None:
        """As a call, by the reference."""
        value = self._value(x, residuals)
        if y is not None:
            y[...] = value
        if y_bits is not None:
            y_bits[...] = reference.bitpack(value, value.ndim - 1)

    def _ready(self) -> Any:
        if self._native is None:  # two threads may both make one: the same
            native.active()
            self._native = self._make()
        return self._native

    @abstractmethod
    def _make(self) -> Any: ...

    @abstractmethod
    def _check_input(self, x: NDArray[Any]) -> int: ...

    @abstractmethod
    def _out_shape(self, n: int) -> tuple[int, ...]: ...

    @abstractmethod
    def _value(self, x: NDArray[Any], residuals: Sequence[Floats]) -> Floats: ...


class ConvKernel(Kernel):
    """Binary convolution and its output transform; a linear layer is one of 1×1 on 1×1 images.

    Takes bits (batch, height, width, groups · ⌈in_channels / groups / 8⌉), tail bits zero; gives
    (batch, out_height, out_width, out_channels).

    Args:
        weight_bits: uint8 (out_channels, kernel_height, kernel_width, ⌈in_channels / groups / 8⌉).
        geometry: of the window.
        in_channels: of all groups together.
        groups: output channels of group g see input channels of group g only.
        steps: from the integer dot to the result.
        thresholds: in place of the steps where only signs are wanted, see `find_thresholds`.

    Raises:
        UsageError: sizes do not fit each other.
    """

    def __init__(
        self,
        weight_bits: Bits,
        geometry: Geometry,
        in_channels: int,
        groups: int = 1,
        steps: Sequence[Step] = (),
        thresholds: Thresholds | None = None,
    ) -> None:
        super().__init__(steps)
        geometry.check()
        n_out = len(weight_bits)
        if groups < 1 or in_channels < 1 or in_channels % groups or n_out % groups or not n_out:
            raise UsageError(
                f"expected channels that divide by the groups, got {in_channels} → {n_out} in "
                f"{groups} groups"
            )
        packed = packed_bytes(in_channels // groups)
        _check("weight_bits", weight_bits, np.uint8, (n_out, *geometry.kernel, packed))
        _check_steps(steps, n_out)
        self.weight_bits, self.geometry, self.in_channels = weight_bits, geometry, in_channels
        self.groups, self.thresholds = groups, thresholds
        self.can_pack = groups == 1 or n_out // groups % 8 == 0
        """Whether `y_bits` may be asked for: a group of outputs must end with its byte."""

    @property
    def n_macs(self) -> int:
        """Products of one image."""
        height, width = self.geometry.out_size
        kernel = self.geometry.kernel[0] * self.geometry.kernel[1]
        depth = kernel * self.in_channels // self.groups
        return depth * len(self.weight_bits) * height * width

    def _make(self) -> Any:
        y, x = self.geometry.axes()
        return native.module().conv(
            y, x, self.in_channels, len(self.weight_bits), self.groups, False, self.weight_bits,
            _tuples(self.steps), self.thresholds,
        )  # fmt: skip

    def _check_input(self, x: NDArray[Any]) -> int:
        pixel = self.groups * packed_bytes(self.in_channels // self.groups)
        _check("bits", x, np.uint8, (None, *self.geometry.size, pixel))
        return len(x)

    def _out_shape(self, n: int) -> tuple[int, ...]:
        return (n, *self.geometry.out_size, len(self.weight_bits))

    def _value(self, x: NDArray[Any], residuals: Sequence[Floats]) -> Floats:
        _, _, stride, border, dilation = self.geometry
        dot = reference.bconv2d_dot(
            x, self.weight_bits, self.in_channels, stride, border, dilation, self.groups
        )
        y = np.ascontiguousarray(np.moveaxis(dot, 1, -1)).astype(np.float32)
        return reference.apply_steps(y, self.steps, residuals)


class FloatConvKernel(Kernel):
    """Convolution of floats and its output transform: the layers that stay float, where small.

    Takes float32 (batch, height, width, in_channels); gives (batch, out_height, out_width,
    out_channels). The order of its sums is fixed, see `float_reference`.

    Args:
        weight: float32 (out_channels, kernel_height, kernel_width, in_channels).
        geometry: of the window.
        steps: from the sum to the result.

    Raises:
        UsageError: sizes do not fit each other.
    """

    def __init__(self, weight: Floats, geometry: Geometry, steps: Sequence[Step] = ()) -> None:
        super().__init__(steps)
        geometry.check()
        _check("weight", weight, np.float32, (None, *geometry.kernel, None))
        if 0 in weight.shape:
            raise UsageError(f"`weight`: expected channels, got {weight.shape}")
        _check_steps(steps, len(weight))
        self.weight, self.geometry = weight, geometry

    @property
    def n_macs(self) -> int:
        """Products of one image."""
        height, width = self.geometry.out_size
        return self.weight.size * height * width

    def _make(self) -> Any:
        y, x = self.geometry.axes()
        n_out, _, _, n_in = self.weight.shape
        return native.module().conv(
            y, x, n_in, n_out, 1, True, self.weight.view(np.uint8), _tuples(self.steps), None
        )

    def _check_input(self, x: NDArray[Any]) -> int:
        _check("x", x, np.float32, (None, *self.geometry.size, self.weight.shape[3]))
        return len(x)

    def _out_shape(self, n: int) -> tuple[int, ...]:
        return (n, *self.geometry.out_size, len(self.weight))

    def _value(self, x: NDArray[Any], residuals: Sequence[Floats]) -> Floats:
        _, _, stride, border, dilation = self.geometry
        y = float_reference.conv2d(x, self.weight, stride, border, dilation)
        return reference.apply_steps(y, self.steps, residuals)


class PoolKernel(Kernel):
    """Maximum pooling, with steps on what is pooled and on the result.

    Takes float32 (batch, height, width, channels); gives (batch, out_height, out_width, channels).

    Args:
        geometry: of the window; no window may lie in the padding alone.
        n_channels: of the image.
        before: steps on what is pooled; they add no residual.
        steps: on the result.
        producer: a convolution whose output is pooled and goes nowhere else; the kernel then takes
            what that takes. There are no steps `before`: the convolution has its own.

    Raises:
        UsageError: sizes do not fit each other.
    """

    def __init__(
        self,
        geometry: Geometry,
        n_channels: int,
        before: Sequence[Step] = (),
        steps: Sequence[Step] = (),
        producer: ConvKernel | FloatConvKernel | None = None,
    ) -> None:
        super().__init__(steps)
        geometry.check()
        left, right, top, bottom = geometry.border
        height, width = geometry.kernel
        if max(left, right) >= width or max(top, bottom) >= height:
            raise UsageError(f"expected padding smaller than the window, got {geometry}")
        if any(step.kind == "residual" for step in before):
            raise UsageError("expected steps without a residual before a pooling")
        _check_steps((*before, *steps), n_channels)
        self.geometry, self.n_channels, self.before = geometry, n_channels, tuple(before)
        self.producer = producer
        if producer is not None and (
            before or producer.n_residuals or producer._out_shape(0)[1:] != self._pooled_shape
        ):
            raise UsageError(
                f"`producer`: expected a convolution to {self._pooled_shape} without residuals, "
                f"got one to {producer._out_shape(0)[1:]}"
            )

    @property
    def _pooled_shape(self) -> tuple[int, int, int]:
        return (*self.geometry.size, self.n_channels)

    def _make(self) -> Any:
        y, x = self.geometry.axes()
        before, after = _tuples(self.before), _tuples(self.steps)
        producer = None if self.producer is None else self.producer._ready()
        return native.module().max_pool(y, x, self.n_channels, before, after, producer)

    def _check_input(self, x: NDArray[Any]) -> int:
        if self.producer is not None:
            return self.producer._check_input(x)
        _check("x", x, np.float32, (None, *self._pooled_shape))
        return len(x)

    def _out_shape(self, n: int) -> tuple[int, ...]:
        return (n, *self.geometry.out_size, self.n_channels)

    def _value(self, x: NDArray[Any], residuals: Sequence[Floats]) -> Floats:
        _, kernel, stride, border, dilation = self.geometry
        value = reference.apply_steps(x, self.before, ())
        if self.producer is not None:
            value = self.producer._value(x, ())
        pooled = float_reference.max_pool2d(value, kernel, stride, border, dilation)
        return reference.apply_steps(pooled, self.steps, residuals)


class RowsKernel(Kernel):
    """Steps on floats, and their signs; float32 (rows, channels) to the same shape.

    Args:
        n_channels: innermost.
        steps: what to do.

    Raises:
        UsageError: a step has another number of channels.
    """

    def __init__(self, n_channels: int, steps: Sequence[Step] = ()) -> None:
        super().__init__(steps)
        _check_steps(steps, n_channels)
        self.n_channels = n_channels

    def _make(self) -> Any:
        return native.module().rows(self.n_channels, _tuples(self.steps))

    def _check_input(self, x: NDArray[Any]) -> int:
        _check("x", x, np.float32, (None, self.n_channels))
        return len(x)

    def _out_shape(self, n: int) -> tuple[int, ...]:
        return (n, self.n_channels)

    def _value(self, x: NDArray[Any], residuals: Sequence[Floats]) -> Floats:
        return reference.apply_steps(x, self.steps, residuals)


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
    if x.dtype != np.float32:
        raise UsageError(f"`x`: expected float32, got {x.dtype}")
    if not 0 <= channel_axis < x.ndim or groups < 1 or x.shape[channel_axis] % groups:
        raise UsageError(
            f"`x`: expected channels on axis {channel_axis} in {groups} groups, got {x.shape}"
        )
    n_channels = x.shape[channel_axis]
    if not native.is_native() or not n_channels or (groups > 1 and n_channels // groups % 8):
        return reference.bitpack(x, channel_axis, groups)
    outer = (*x.shape[:channel_axis], *x.shape[channel_axis + 1 :])
    bits = np.empty((*outer, packed_bytes(n_channels)), np.uint8)
    if channel_axis == 1 and x.flags.c_contiguous and x.ndim > 2:
        n_pixels = x[0, 0].size if len(x) else 0
        native.module().pack_planes(
            _address(x), len(x), n_channels, n_pixels, _address(bits), n_threads
        )
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
    if bits.ndim != 4 or weight_bits.ndim != 4:
        raise UsageError(f"expected 4 axes, got bits {bits.shape}, weight {weight_bits.shape}")
    geometry = Geometry(
        (bits.shape[1], bits.shape[2]), (weight_bits.shape[1], weight_bits.shape[2]),
        stride, border, dilation,
    )  # fmt: skip
    steps = dot_steps(scale_log2, bias)
    kernel = ConvKernel(weight_bits, geometry, in_channels, groups, steps)
    y = np.empty((len(bits), *geometry.out_size, len(weight_bits)), np.float32)
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
    if weight_bits.ndim != 2 or bits.ndim < 1:
        raise UsageError(f"expected rows of bits, got {bits.shape} and {weight_bits.shape}")
    kernel = linear_kernel(weight_bits, in_features, dot_steps(scale_log2, bias))
    _check("bits", bits, np.uint8, (*bits.shape[:-1], packed_bytes(in_features)))
    y = np.empty((*bits.shape[:-1], len(weight_bits)), np.float32)
    kernel(
        bits.reshape(-1, 1, 1, bits.shape[-1]),
        (),
        y.reshape(-1, 1, 1, y.shape[-1]),
        None,
        n_threads,
    )
    return y


def linear_kernel(
    weight_bits: Bits,
    in_features: int,
    steps: Sequence[Step],
    thresholds: Thresholds | None = None,
) -> ConvKernel:
    """A linear layer's kernel: every row is an image of one pixel.

    Args:
        weight_bits: uint8 (out_features, ⌈in_features / 8⌉).
        in_features: K.
        steps: see `ConvKernel`.
        thresholds: see `ConvKernel`.

    Raises:
        UsageError: see `ConvKernel`.
    """
    weight = weight_bits[:, None, None, :]
    return ConvKernel(
        weight, Geometry((1, 1), (1, 1)), in_features, steps=steps, thresholds=thresholds
    )


def dot_steps(scale_log2: NDArray[np.int8] | None, bias: Floats | None) -> tuple[Step, ...]:
    """What `bconv2d` and `bgemm` do to a dot: a product with 2^scale_log2, then a sum."""
    steps = []
    if scale_log2 is not None:
        steps.append(Step("multiply", np.ldexp(np.float32(1), scale_log2.astype(np.int32))))
    if bias is not None:
        steps.append(Step("add", bias))
    return tuple(steps)


def _tuples(steps: Sequence[Step]) -> list[tuple[Any, ...]]:
    return [(_KINDS.index(s.kind), s.residual, s.low, s.high, s.values) for s in steps]


def _check_steps(steps: Sequence[Step], n_channels: int) -> None:
    for step in steps:
        if step.values is not None:
            _check(f"values of `{step.kind}`", step.values, np.float32, (n_channels,))


def _check(
    name: str,
    array: NDArray[Any],
    dtype: type[np.generic],
    shape: Sequence[int | None],
    *,
    written: bool = False,
) -> None:
    """Refuses what the kernels cannot read; None in `shape` stands for any size."""
    fits = array.ndim == len(shape) and all(
        wanted in (None, found) for wanted, found in zip(shape, array.shape, strict=True)
    )
    if array.dtype != dtype or not fits:
        sizes = ", ".join("any" if size is None else str(size) for size in shape)
        raise UsageError(
            f"`{name}`: expected {dtype.__name__} ({sizes}), got {array.dtype} {array.shape}"
        )
    if not (array.flags.c_contiguous and array.flags.aligned):
        raise UsageError(f"`{name}`: expected a contiguous, aligned array; copy it first")
    if written and not array.flags.writeable:
        raise UsageError(f"`{name}`: expected an array that may be written")


def _address(array: NDArray[Any]) -> int:
    address: int = array.__array_interface__["data"][0]
    return address
