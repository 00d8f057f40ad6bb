"""How a window walks over an image."""

from __future__ import annotations

from typing import NamedTuple

from irbin.border import Border
from irbin.bounds import MAX_ELEMENTS, MAX_INTEGER, MAX_REACH
from irbin.errors import UsageError
from irbin.kernels.kernel import check_integers


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

    def checked(self, n_channels: int = 1) -> Geometry:
        """This geometry in Python's integers, for an image of so many channels.

        Raises:
            UsageError: sizes that are no integers, that no window has, or beyond their bounds.
        """
        border = check_integers("border", self.border, 4, -MAX_REACH, MAX_REACH)
        geometry = Geometry(
            _pair("size", self.size, MAX_INTEGER),
            _pair("kernel", self.kernel, MAX_REACH),
            _pair("stride", self.stride, MAX_REACH),
            (border[0], border[1], border[2], border[3]),
            _pair("dilation", self.dilation, MAX_REACH),
        )
        pairs = (geometry.size, geometry.kernel, geometry.stride, geometry.dilation)
        if min(map(min, pairs)) < 1 or min(border) < 0:
            raise UsageError(f"expected a window that fits its image, got {geometry}")
        reach = [(k - 1) * d + 1 for k, d in zip(geometry.kernel, geometry.dilation, strict=True)]
        if min(geometry.out_size) < 1 or max(reach) > MAX_REACH:
            raise UsageError(f"expected a window that fits its image, got {geometry}")
        padded = [size + sum(geometry._padding(axis)) for axis, size in enumerate(geometry.size)]
        if n_channels * padded[0] * padded[1] > MAX_ELEMENTS:
            raise UsageError(
                f"expected at most {MAX_ELEMENTS} values of an image with its border, got "
                f"{n_channels * padded[0] * padded[1]}"
            )
        return geometry

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


def _pair(name: str, values: object, most: int) -> tuple[int, int]:
    vertical, horizontal = check_integers(name, values, 2, -most, most)
    return vertical, horizontal
