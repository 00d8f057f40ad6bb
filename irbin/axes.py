"""What an operator does along one axis of an image: where a box copies, what is averaged."""

from __future__ import annotations

from typing import NamedTuple


class Span(NamedTuple):
    """What one output averages along an axis."""

    begin: int
    """First pixel."""
    end: int
    """Behind the last one."""
    divisor: int
    """By which the sum is divided, times that of the other axis."""


class Between(NamedTuple):
    """What one output of an interpolation is made of along an axis."""

    first: int
    """A place."""
    second: int
    """The next one, or the same."""
    first_weight: float
    """Of the first, as float32."""
    second_weight: float
    """Of the second."""


class BoxAxis(NamedTuple):
    """Which places of an axis are copied from where."""

    source: int
    """Places of the axis that is read."""
    before: int
    """Places in front of what is copied."""
    length: int
    """Places that are copied."""
    start: int
    """Where the first of them is read."""
    step: int
    """From one that is read to the next."""
    size: int
    """Places of the result."""

    @property
    def is_whole(self) -> bool:
        """Whether it copies the axis as it is."""
        return self == BoxAxis(self.source, 0, self.source, 0, 1, self.source)

    @property
    def is_padded(self) -> bool:
        """Whether some places are not copied."""
        return self.length < self.size
