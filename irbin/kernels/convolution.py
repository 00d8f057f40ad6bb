"""Convolutions made ready to run: of signs, and of floats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irbin.bits import packed_bytes
from irbin.bounds import MAX_DEPTH_BITS, MAX_INTEGER
from irbin.errors import UsageError
from irbin.kernels import float_reference, native, reference
from irbin.kernels.geometry import Geometry
from irbin.kernels.kernel import Kernel, check_array, check_integer, check_steps, step_tuples
from irbin.kernels.reference import Bits
from irbin.kernels.steps import Floats, Step
from irbin.kernels.thresholds import Thresholds


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
        check_array("weight_bits", weight_bits, np.uint8, (None, None, None, None))
        in_channels = check_integer("in_channels", in_channels, -MAX_INTEGER, MAX_INTEGER)
        groups = check_integer("groups", groups, -MAX_INTEGER, MAX_INTEGER)
        geometry = geometry.checked(in_channels)
        n_out = len(weight_bits)
        if groups < 1 or in_channels < 1 or in_channels % groups or n_out % groups or not n_out:
            raise UsageError(
                f"expected channels that divide by the groups, got {in_channels} → {n_out} in "
                f"{groups} groups"
            )
        packed = packed_bytes(in_channels // groups)
        check_array("weight_bits", weight_bits, np.uint8, (n_out, *geometry.kernel, packed))
        depth = in_channels // groups * geometry.kernel[0] * geometry.kernel[1]
        if depth > MAX_DEPTH_BITS:
            raise UsageError(f"expected dots of at most {MAX_DEPTH_BITS} products, got {depth}")
        check_steps(steps, n_out)
        self.weight_bits, self.geometry, self.in_channels = weight_bits, geometry, in_channels
        self.groups, self.thresholds = groups, thresholds
        self.can_pack = groups == 1 or n_out // groups % 8 == 0
        self.can_give_y = thresholds is None
        if thresholds is not None:
            check_array("lower", thresholds[0], np.int32, (n_out,))
            check_array("flips", thresholds[1], np.uint8, (packed_bytes(n_out),))

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
            y,
            x,
            self.in_channels,
            len(self.weight_bits),
            self.groups,
            False,
            False,
            self.weight_bits,
            step_tuples(self.steps),
            self.thresholds,
        )

    def _check_input(self, x: NDArray[Any]) -> int:
        pixel = self.groups * packed_bytes(self.in_channels // self.groups)
        check_array("bits", x, np.uint8, (None, *self.geometry.size, pixel))
        return len(x)

    def _out_shape(self, n: int) -> tuple[int, ...]:
        return (n, *self.geometry.out_size, len(self.weight_bits))

    def _value(self, x: NDArray[Any], residuals: Sequence[Floats]) -> Floats:
        _, _, stride, border, dilation = self.geometry
        dot = reference.bconv2d_dot(
            x, self.weight_bits, self.in_channels, stride, border, dilation, self.groups
        )
        y = np.ascontiguousarray(np.moveaxis(dot, 1, -1)).astype(np.float32)
        return reference.apply_steps(y, self._value_steps, residuals)


class FloatConvKernel(Kernel):
    """Convolution of floats and its output transform: the layers that stay float, where small.

    Takes float32 (batch, height, width, in_channels); gives (batch, out_height, out_width,
    out_channels). The order of its sums is fixed, see `float_reference`.

    Args:
        weight: float32 (out_channels, kernel_height, kernel_width, in_channels / groups).
        geometry: of the window.
        steps: from the sum to the result.
        groups: output channels of group g see input channels of group g only.
        bfloat16: round image and weight to bfloat16 first, where the processor and the sizes allow
            it: another result, off by up to 2⁻⁷ of each product, in about half of the time. Where a
            row of taps has an odd number of floats, a NaN or infinity in the pixel behind it makes
            the result NaN.

    Raises:
        UsageError: sizes do not fit each other.
    """

    def __init__(
        self,
        weight: Floats,
        geometry: Geometry,
        steps: Sequence[Step] = (),
        *,
        groups: int = 1,
        bfloat16: bool = False,
    ) -> None:
        super().__init__(steps)
        if getattr(weight, "ndim", 4) != 4:
            check_array("weight", weight, np.float32, (None, None, None, None))
        if not isinstance(weight, np.ndarray) or 0 in weight.shape:
            raise UsageError(f"`weight`: expected channels, got {getattr(weight, 'shape', weight)}")
        groups = check_integer("groups", groups, 1, MAX_INTEGER)
        if len(weight) % groups:
            raise UsageError(f"`groups`: expected a divisor of {len(weight)}, got {groups}")
        geometry = geometry.checked(weight.shape[3] * groups)
        check_array("weight", weight, np.float32, (None, *geometry.kernel, None))
        check_steps(steps, len(weight))
        self.weight, self.geometry, self.bfloat16 = weight, geometry, bfloat16
        self.groups, self.in_channels = groups, weight.shape[3] * groups
        self.can_pack = groups == 1 or len(weight) // groups % 8 == 0

    @property
    def n_macs(self) -> int:
        """Products of one image."""
        height, width = self.geometry.out_size
        return self.weight.size * height * width

    def _make(self) -> Any:
        y, x = self.geometry.axes()
        return native.module().conv(
            y,
            x,
            self.in_channels,
            len(self.weight),
            self.groups,
            True,
            self.bfloat16,
            self.weight.view(np.uint8),
            step_tuples(self.steps),
            None,
        )

    def _check_input(self, x: NDArray[Any]) -> int:
        check_array("x", x, np.float32, (None, *self.geometry.size, self.in_channels))
        return len(x)

    def _out_shape(self, n: int) -> tuple[int, ...]:
        return (n, *self.geometry.out_size, len(self.weight))

    def _value(self, x: NDArray[Any], residuals: Sequence[Floats]) -> Floats:
        _, _, stride, border, dilation = self.geometry
        y = float_reference.conv2d(x, self.weight, stride, border, dilation, self.groups)
        return reference.apply_steps(y, self._value_steps, residuals)


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
    check_array("weight_bits", weight_bits, np.uint8, (None, None))
    weight = weight_bits[:, None, None, :]
    return ConvKernel(
        weight, Geometry((1, 1), (1, 1)), in_features, steps=steps, thresholds=thresholds
    )


def dot_steps(scale_log2: NDArray[np.int8] | None, bias: Floats | None) -> tuple[Step, ...]:
    """What `bconv2d` and `bgemm` do to a dot: a product with 2^scale_log2, then a sum."""
    steps = []
    for name, values, kind in (("scale_log2", scale_log2, np.int8), ("bias", bias, np.float32)):
        if values is not None:
            check_array(name, values, kind, (None,))
    if scale_log2 is not None:
        steps.append(Step("multiply", np.ldexp(np.float32(1), scale_log2.astype(np.int32))))
    if bias is not None:
        steps.append(Step("add", bias))
    return tuple(steps)
