"""Kernels that make an image row by row: averages, depthwise convolutions, boxes, joined channels.

Images are float32 (batch, height, width, channels). `float_reference` defines what is summed, and
in which order; the others move numbers, or compute one operation on each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irbin.axes import BoxAxis, Span
from irbin.bounds import MAX_INTEGER
from irbin.errors import UsageError
from irbin.kernels import float_reference, native, reference
from irbin.kernels.geometry import Geometry
from irbin.kernels.kernel import (
    Kernel,
    check_array,
    check_integer,
    check_integers,
    check_steps,
    step_tuples,
)
from irbin.kernels.steps import Floats, Step

MEETINGS = ("multiply", "add", "subtract")
"""What a pixel may meet another by, in the order of `Meeting` in csrc/lines.h."""


class LinesKernel(Kernel):
    """What they share: an image's size, and steps on the result.

    Args:
        size: (height, width) of the input.
        n_channels: of the input.
        out: (height, width, channels) of the result.
        steps: on the result.

    Raises:
        UsageError: a size is no size, or a step has another number of channels.
    """

    def __init__(
        self,
        size: tuple[int, int],
        n_channels: int,
        out: tuple[int, int, int],
        steps: Sequence[Step],
    ) -> None:
        super().__init__(steps)
        self.shape = check_integers("size", (*size, n_channels), 3, 1, MAX_INTEGER)
        self.out = check_integers("out", out, 3, 1, MAX_INTEGER)
        check_steps(steps, self.out[2])

    def _check_input(self, x: NDArray[Any]) -> int:
        check_array("x", x, np.float32, (None, *self.shape))
        return len(x)

    def _out_shape(self, n: int) -> tuple[int, ...]:
        return (n, *self.out)

    def _value(self, x: NDArray[Any], residuals: Sequence[Floats]) -> Floats:
        made = self._plain(x, residuals[self.n_residuals :])
        return reference.apply_steps(made, self._value_steps, residuals)

    def _plain(self, x: Floats, further: Sequence[Floats]) -> Floats:
        raise NotImplementedError


class AverageKernel(LinesKernel):
    """Means of rectangles, any pooling that averages.

    Args:
        size: (height, width) of the input.
        n_channels: of the image.
        rows: of each output row.
        columns: of each output column.
        steps: on the result.

    Raises:
        UsageError: a window reaches beyond the image.
    """

    def __init__(
        self,
        size: tuple[int, int],
        n_channels: int,
        rows: Sequence[Span],
        columns: Sequence[Span],
        steps: Sequence[Step] = (),
    ) -> None:
        super().__init__(size, n_channels, (len(rows), len(columns), n_channels), steps)
        self.rows, self.columns = tuple(rows), tuple(columns)
        for spans, most in ((rows, size[0]), (columns, size[1])):
            for span in spans:
                begin, end, _ = check_integers("span", span, 3, -MAX_INTEGER, MAX_INTEGER)
                if not 0 <= begin <= end <= most:
                    raise UsageError(f"expected windows within 0 to {most}, got {span}")

    def _make(self) -> Any:
        rows, columns = list(map(tuple, self.rows)), list(map(tuple, self.columns))
        return native.module().average(*self.shape, rows, columns, step_tuples(self.steps))

    def _plain(self, x: Floats, _: Sequence[Floats]) -> Floats:
        return float_reference.averages(x, self.rows, self.columns)


class DepthwiseKernel(LinesKernel):
    """Convolution of every channel by itself.

    Args:
        weight: float32 (kernel_height, kernel_width, channels).
        geometry: of the window.
        steps: on the result.

    Raises:
        UsageError: sizes do not fit each other.
    """

    def __init__(self, weight: Floats, geometry: Geometry, steps: Sequence[Step] = ()) -> None:
        check_array("weight", weight, np.float32, (None, None, None))
        n_channels = weight.shape[2]
        geometry = geometry.checked(n_channels)
        check_array("weight", weight, np.float32, (*geometry.kernel, n_channels))
        super().__init__(geometry.size, n_channels, (*geometry.out_size, n_channels), steps)
        self.weight, self.geometry = weight, geometry

    def _make(self) -> Any:
        y, x = self.geometry.axes()
        return native.module().depthwise(y, x, self.weight, step_tuples(self.steps))

    def _plain(self, x: Floats, _: Sequence[Floats]) -> Floats:
        g = self.geometry
        return float_reference.depthwise_conv2d(x, self.weight, g.stride, g.border, g.dilation)


class CropKernel(LinesKernel):
    """A box of every image, which may reach beyond it.

    Args:
        axes: of height, width and channels.
        value: of what lies beyond.
        steps: on the result.

    Raises:
        UsageError: an axis copies what is not there.
    """

    def __init__(
        self,
        axes: tuple[BoxAxis, BoxAxis, BoxAxis],
        value: float = 0.0,
        steps: Sequence[Step] = (),
    ) -> None:
        y, x, channels = axes
        size, out = (y.source, x.source), (y.size, x.size, channels.size)
        super().__init__(size, channels.source, out, steps)
        self.axes, self.value = axes, np.float32(value)
        for axis in axes:
            check_integers("axes", axis, 6, 0, MAX_INTEGER)
            is_inside = axis.start + max(axis.length - 1, 0) * axis.step < axis.source
            if axis.before + axis.length > axis.size or not (is_inside or not axis.length):
                raise UsageError(f"expected a box that copies what is there, got {axis}")

    def _make(self) -> Any:
        axes = map(tuple, self.axes)
        return native.module().crop(*axes, float(self.value), step_tuples(self.steps))

    def _plain(self, x: Floats, _: Sequence[Floats]) -> Floats:
        made = np.full((len(x), *self.out), self.value, np.float32)
        at = [slice(None)]
        source = [slice(None)]
        for axis in self.axes:
            at.append(slice(axis.before, axis.before + axis.length))
            source.append(slice(axis.start, axis.start + axis.length * axis.step, axis.step or 1))
        made[tuple(at)] = x[tuple(source)]
        return made


class JoinKernel(LinesKernel):
    """Images joined along their channels; all but the first come behind the residuals.

    Args:
        size: (height, width) of each.
        channels: of each.
        steps: on the result.

    Raises:
        UsageError: a number of channels is none.
    """

    def __init__(
        self, size: tuple[int, int], channels: Sequence[int], steps: Sequence[Step] = ()
    ) -> None:
        self.channels = tuple(check_integer("channels", n, 1, MAX_INTEGER) for n in channels)
        if not self.channels:
            raise UsageError("`channels`: expected one number at least, got none")
        super().__init__(size, self.channels[0], (*size, sum(self.channels)), steps)

    def _further_shapes(self, n: int) -> tuple[tuple[int, ...], ...]:
        return tuple((n, *self.shape[:2], channels) for channels in self.channels[1:])

    def _make(self) -> Any:
        height, width, _ = self.shape
        return native.module().join(height, width, self.channels, step_tuples(self.steps))

    def _plain(self, x: Floats, further: Sequence[Floats]) -> Floats:
        return np.concatenate((x, *further), axis=-1)


class ChannelMeanKernel(LinesKernel):
    """Means of every so many neighboring channels, in the order of `float_reference`.

    Args:
        size: (height, width).
        n_channels: of the result.
        count: channels that a mean is of.
        steps: on the means.

    Raises:
        UsageError: it is of none.
    """

    def __init__(
        self, size: tuple[int, int], n_channels: int, count: int, steps: Sequence[Step] = ()
    ) -> None:
        count = check_integer("count", count, 1, MAX_INTEGER)
        super().__init__(size, n_channels * count, (*size, n_channels), steps)
        self.count = count

    def _make(self) -> Any:
        return native.module().channel_mean(*self.out, self.count, step_tuples(self.steps))

    def _plain(self, x: Floats, further: Sequence[Floats]) -> Floats:  # noqa: ARG002 - reads none
        return float_reference.channel_means(x, self.count)


class GateKernel(LinesKernel):
    """Every pixel times (plus, minus) one pixel an image, which comes behind the residuals.

    Args:
        size: (height, width).
        n_channels: of both.
        meeting: what is computed, of `MEETINGS`.
        steps: on the result.

    Raises:
        UsageError: there is no such operation.
    """

    def __init__(
        self,
        size: tuple[int, int],
        n_channels: int,
        meeting: str,
        steps: Sequence[Step] = (),
    ) -> None:
        super().__init__(size, n_channels, (*size, n_channels), steps)
        if meeting not in MEETINGS:
            known = ", ".join(f"`{name}`" for name in MEETINGS)
            raise UsageError(f"`meeting`: expected one of {known}, got `{meeting}`")
        self.meeting = meeting

    def _further_shapes(self, n: int) -> tuple[tuple[int, ...], ...]:
        return ((n, 1, 1, self.shape[2]),)

    def _make(self) -> Any:
        number = MEETINGS.index(self.meeting)
        return native.module().gate(*self.shape, number, step_tuples(self.steps))

    def _plain(self, x: Floats, further: Sequence[Floats]) -> Floats:
        (pixel,) = further
        operation = {"multiply": np.multiply, "add": np.add, "subtract": np.subtract}
        with np.errstate(all="ignore"):
            made: Floats = operation[self.meeting](x, pixel)
        return made
