"""Convolutions of floats with weights that are signs, made ready to run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irbin.bits import packed_bytes, unpack
from irbin.errors import UsageError
from irbin.kernels import native, reference, sign_reference
from irbin.kernels.geometry import Geometry
from irbin.kernels.kernel import Kernel, check_array, check_steps, step_tuples
from irbin.kernels.reference import Bits
from irbin.kernels.steps import Floats, Step


class SignConvKernel(Kernel):
    """Convolution of floats with signs, and its output transform: a layer of `1w32a`.

    Takes float32 (batch, height, width, in_channels); gives (batch, out_height, out_width,
    out_channels). What it computes is defined by `sign_reference.sign_conv2d`.

    Args:
        weight_bits: uint8 (out_channels, kernel_height, kernel_width, ⌈in_channels / 8⌉).
        in_channels: of the image.
        geometry: of the window; taps of a row are neighbors.
        steps: from the sum to the result.

    Raises:
        UsageError: sizes do not fit each other.
    """

    def __init__(
        self, weight_bits: Bits, in_channels: int, geometry: Geometry, steps: Sequence[Step] = ()
    ) -> None:
        super().__init__(steps)
        check_array("weight_bits", weight_bits, np.uint8, (None, None, None, None))
        geometry = geometry.checked(in_channels)
        shape = (None, *geometry.kernel, packed_bytes(in_channels))
        check_array("weight_bits", weight_bits, np.uint8, shape)
        if geometry.dilation[1] != 1:
            raise UsageError(f"`dilation`: expected columns of 1, got {geometry.dilation[1]}")
        check_steps(steps, len(weight_bits))
        self.weight_bits, self.in_channels, self.geometry = weight_bits, in_channels, geometry

    @property
    def n_macs(self) -> int:
        """Products of one image."""
        height, width = self.geometry.out_size
        n_taps = self.geometry.kernel[0] * self.geometry.kernel[1]
        return n_taps * self.in_channels * len(self.weight_bits) * height * width

    def _make(self) -> Any:
        y, x = self.geometry.axes()
        return native.module().sign_conv(
            y, x, self.in_channels, self.weight_bits, step_tuples(self.steps)
        )

    def _check_input(self, x: NDArray[Any]) -> int:
        check_array("x", x, np.float32, (None, *self.geometry.size, self.in_channels))
        return len(x)

    def _out_shape(self, n: int) -> tuple[int, ...]:
        return (n, *self.geometry.out_size, len(self.weight_bits))

    def _value(self, x: NDArray[Any], residuals: Sequence[Floats]) -> Floats:
        _, _, stride, border, dilation = self.geometry
        signs = unpack(self.weight_bits, self.in_channels)
        y = sign_reference.sign_conv2d(x, signs, stride, border, dilation)
        return reference.apply_steps(y, self._value_steps, residuals)
