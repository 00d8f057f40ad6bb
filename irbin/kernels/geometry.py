"""How a window walks over an image."""

from __future__ import annotations

from typing import NamedTuple

from irbin.errors import UsageError
from irbin.kernels.reference import Border


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
