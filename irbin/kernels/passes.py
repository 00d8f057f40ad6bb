"""Kernels without weights: maximum pooling, and steps on floats alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irbin.bounds import MAX_INTEGER
from irbin.errors import UsageError
from irbin.kernels import float_reference, native, reference
from irbin.kernels.byte_convolution import ByteConvKernel
from irbin.kernels.convolution import ConvKernel, FloatConvKernel
from irbin.kernels.geometry import Geometry
from irbin.kernels.kernel import Kernel, check_array, check_integer, check_steps, step_tuples
from irbin.kernels.sign_convolution import SignConvKernel
from irbin.kernels.steps import Floats, Step


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
        producer: ConvKernel | FloatConvKernel | ByteConvKernel | SignConvKernel | None = None,
    ) -> None:
        super().__init__(steps)
        n_channels = check_integer("n_channels", n_channels, 1, MAX_INTEGER)
        geometry = geometry.checked(n_channels)
        left, right, top, bottom = geometry.border
        height, width = geometry.kernel
        if max(left, right) >= width or max(top, bottom) >= height:
            raise UsageError(f"expected padding smaller than the window, got {geometry}")
        if any(step.kind in ("residual", "write") for step in before):
            raise UsageError("expected steps without a residual or `write` before a pooling")
        check_steps((*before, *steps), n_channels)
        self.geometry, self.n_channels, self.before = geometry, n_channels, tuple(before)
        self.producer = producer
        if producer is not None and (
            before
            or producer.n_residuals
            or not producer.can_give_y
            or producer._out_shape(0)[1:] != self._pooled_shape
        ):
            raise UsageError(
                f"`producer`: expected a convolution to {self._pooled_shape} without residuals "
                f"or thresholds, got one to {producer._out_shape(0)[1:]}"
            )

    @property
    def _pooled_shape(self) -> tuple[int, int, int]:
        return (*self.geometry.size, self.n_channels)

    def _make(self) -> Any:
        y, x = self.geometry.axes()
        before, after = step_tuples(self.before), step_tuples(self.steps)
        producer = None if self.producer is None else self.producer._ready()
        return native.module().max_pool(y, x, self.n_channels, before, after, producer)

    def _check_input(self, x: NDArray[Any]) -> int:
        if self.producer is not None:
            return self.producer._check_input(x)
        check_array("x", x, np.float32, (None, *self._pooled_shape))
        return len(x)

    def _out_shape(self, n: int) -> tuple[int, ...]:
        return (n, *self.geometry.out_size, self.n_channels)

    def _value(self, x: NDArray[Any], residuals: Sequence[Floats]) -> Floats:
        _, kernel, stride, border, dilation = self.geometry
        value = reference.apply_steps(x, self.before, ())
        if self.producer is not None:
            value = self.producer._value(x, ())
        pooled = float_reference.max_pool2d(value, kernel, stride, border, dilation)
        return reference.apply_steps(pooled, self._value_steps, residuals)


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
        n_channels = check_integer("n_channels", n_channels, 0, MAX_INTEGER)
        check_steps(steps, n_channels)
        self.n_channels = n_channels

    def _make(self) -> Any:
        return native.module().rows(self.n_channels, step_tuples(self.steps))

    def _check_input(self, x: NDArray[Any]) -> int:
        check_array("x", x, np.float32, (None, self.n_channels))
        return len(x)

    def _out_shape(self, n: int) -> tuple[int, ...]:
        return (n, self.n_channels)

    def _value(self, x: NDArray[Any], residuals: Sequence[Floats]) -> Floats:
        return reference.apply_steps(x, self._value_steps, residuals)
