"""Arguments of a call of which only sizes are known: shapes for tensors, numbers for sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from irbin.program.types import Ref, Value

Shape = tuple[int, ...]


class Misfit(Exception):  # noqa: N818 - an answer, not an error
    """Why a call gives no result, in words."""


class Call:
    """A call's arguments for one batch size: shapes for tensors, numbers for sizes.

    Args:
        given: by name; tensors as `Sized`.
        n: images.
    """

    def __init__(self, given: Mapping[str, Any], n: int) -> None:
        self.given, self.n = given, n

    def shape(self, name: str) -> Shape:
        """Of a tensor argument."""
        value = self.given.get(name)
        if not isinstance(value, Sized):
            raise Misfit(f"`{name}` is no tensor")
        return value.shape

    def number(self, name: str, default: int | None = None) -> int:
        """A whole number."""
        value = self.given.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise Misfit(f"`{name}`: expected a whole number, got {value!r}")
        return value

    def numbers(self, name: str, count: int | None = None, default: int = 0) -> Shape:
        """Whole numbers; one stands for all `count`, none for so many defaults."""
        value = self.given.get(name)
        values = value if isinstance(value, list | tuple) else (() if value is None else (value,))
        if not all(isinstance(v, int) and not isinstance(v, bool) for v in values):
            raise Misfit(f"`{name}`: expected whole numbers, got {value!r}")
        if count is not None:
            values = values or (default,) * count
            values = tuple(values) * count if len(values) == 1 else values
            if len(values) != count:
                raise Misfit(f"`{name}`: expected {count} numbers, got {len(values)}")
        return tuple(values)


class Sized:
    """A tensor of which only the shape is known."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape


def bounded(call: Call, count: int, most: int, what: str) -> None:
    """Misfit for more than `most` of something for each image."""
    if count > max(call.n, 1) * most:
        raise Misfit(f"expected at most {most} {what} an image, got {count} for {call.n}")


def axis_of(axis: int, n_axes: int) -> int:
    """An axis counted from 0; Misfit where there is none."""
    if not -n_axes <= axis < n_axes:
        raise Misfit(f"axis {axis} of {n_axes}")
    return axis % n_axes


def arguments_for(value: Value, known: Callable[[str], Any]) -> Any:
    """An argument with what names stand for in place of the names."""
    if isinstance(value, Ref):
        return known(value.name)
    return tuple(arguments_for(v, known) for v in value) if isinstance(value, tuple) else value
