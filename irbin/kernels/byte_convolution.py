"""Convolutions of bytes made ready to run: a network's first layer, its normalization folded in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irbin.kernels import byte_reference, native, reference
from irbin.kernels.convolution import FloatConvKernel
from irbin.kernels.geometry import Geometry
from irbin.kernels.kernel import Kernel, check_array, check_steps, step_tuples
from irbin.kernels.steps import Floats, Step


class ByteConvKernel(Kernel):
    """Convolution of bytes in integers, and its output transform.

    Takes uint8 (batch, height, width, in_channels); gives (batch, out_height, out_width,
    out_channels). What it computes is defined in `byte_reference`.

    Args:
        weight: float32 (out_channels, kernel_height, kernel_width, in_channels), of normalized
            images.
        mean: per input channel, in units of [0, 1] pixels.
        std: likewise.
        geometry: of the window; its border is zero after normalization.
        steps: from the sum, times its scale, to the result.

    Raises:
        UsageError: sizes do not fit each other, or see `byte_reference.fold`.
    """

    def __init__(
        self,
        weight: Floats,
        mean: Sequence[float],
        std: Sequence[float],
        geometry: Geometry,
        steps: Sequence[Step] = (),
    ) -> None:
        same = FloatConvKernel(weight, geometry, steps)  # which checks them
        self.folded = byte_reference.fold(weight, mean, std)
        super().__init__((Step("multiply", self.folded.scale), *steps))
        check_steps(self.steps, len(weight))
        self.geometry, self.n_macs = same.geometry, same.n_macs

    def _make(self) -> Any:
        y, x = self.geometry.axes()
        weight, constants, _ = self.folded
        return native.module().byte_conv(y, x, weight, constants, step_tuples(self.steps))

    def _check_input(self, x: NDArray[Any]) -> int:
        check_array("x", x, np.uint8, (None, *self.geometry.size, self.folded.weight.shape[3]))
        return len(x)

    def _out_shape(self, n: int) -> tuple[int, ...]:
        return (n, *self.geometry.out_size, len(self.folded.weight))

    def _value(self, x: NDArray[Any], residuals: Sequence[Floats]) -> Floats:
        _, _, stride, border, dilation = self.geometry
        weight, constants, _ = self.folded
        y = byte_reference.conv2d(x, weight, constants, stride, border, dilation)
        return reference.apply_steps(y, self._value_steps, residuals)
