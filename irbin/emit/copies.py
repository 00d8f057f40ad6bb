"""Nodes that move numbers and compute nothing, as copies from any strides to any strides."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from irbin.program.types import Node, Ref, TensorType
from irbin.runtime.arrays import Array, is_in_rows
from irbin.runtime.views import filled

Arrays = Mapping[str, Array]
MAX_COPY_AXES = 8
"""Of a copy in C, once axes that lie behind each other are one."""


@dataclass(frozen=True, eq=False)
class Copy:
    """Numbers from one place to another."""

    source: str | None
    """Name of what is read; None for a number."""
    x: Array
    """What is read, in its owner's memory; of a number an array of it."""
    to: Array
    """What is written, in the result's memory; of the same shape."""


Made = Callable[[Array], tuple[Copy, ...]]


def copies_of(node: Node, arrays: Arrays, known: Mapping[str, Any]) -> tuple[int, Made] | None:
    """The axis that a node's result has innermost, and its copies into it; None if it computes.

    Args:
        node: any.
        arrays: all that may be read.
        known: integers by name.
    """
    args = arguments(node, arrays, known)
    if args is None or not isinstance(node.type, TensorType):
        return None
    match node.op, args:
        case "aten.cat.default", [list() as names, *axis]:
            return _joined(names, arrays, (*axis, 0)[0])
        case "aten.stack.default", [list() as names, *axis]:
            return _stacked(names, arrays, (*axis, 0)[0])
        case "aten.upsample_nearest2d.vec", [Ref(name), *_]:
            return _enlarged(name, arrays[name], node.type)
        case "aten.pixel_shuffle.default", [Ref(name), int() as by]:
            return _shuffled(name, arrays[name], by)
        case "aten.pixel_unshuffle.default", [Ref(name), int() as by]:
            return _unshuffled(name, arrays[name], by)
        case "aten.roll.default", [Ref(name), list() as shifts, list() as axes]:
            return _rolled(name, arrays[name], shifts, axes)
        case "aten.repeat.default" | "aten.tile.default", [Ref(name), list() as times]:
            return _repeated(name, arrays[name], times)
    return None


def arguments(node: Node, arrays: Arrays, known: Mapping[str, Any]) -> list[Any] | None:
    """A node's, with integers in place of their names; None if floats come neither in nor out.

    Args:
        node: any.
        arrays: all that may be read.
        known: integers by name.
    """
    if not isinstance(node.type, TensorType) or node.type.dtype != "float32" or node.kwargs:
        return None
    args = [filled(value, _Names(known)) for value in node.args]
    return args if args and _are_floats(args[0], arrays) else None


class _Names(dict[str, Any]):
    """Integers as they are, everything else by its name."""

    def __missing__(self, key: str) -> Ref:
        return Ref(key)


def _are_floats(value: Any, arrays: Arrays) -> bool:
    values = value if isinstance(value, list) else [value]
    names = [one.name for one in values if isinstance(one, Ref)]
    return len(names) == len(values) > 0 and all(
        name in arrays and arrays[name].dtype == np.float32 for name in names
    )


def innermost(array: Array) -> int:
    """The axis of a result that looks like `array`: channels of images, or the last."""
    return 1 if array.ndim == 4 and not is_in_rows(array, 3) else array.ndim - 1


def _joined(names: list[Ref], arrays: Arrays, axis: int) -> tuple[int, Made]:
    def made(to: Array) -> tuple[Copy, ...]:
        ends = np.cumsum([arrays[one.name].shape[axis] for one in names])[:-1]
        return tuple(
            Copy(one.name, arrays[one.name], part)
            for one, part in zip(names, np.split(to, ends, axis), strict=True)
        )

    return innermost(arrays[names[0].name]), made


def _stacked(names: list[Ref], arrays: Arrays, axis: int) -> tuple[int, Made]:
    def made(to: Array) -> tuple[Copy, ...]:
        places = np.moveaxis(to, axis, 0)
        return tuple(
            Copy(one.name, arrays[one.name], place)
            for one, place in zip(names, places, strict=True)
        )

    return arrays[names[0].name].ndim, made


def _enlarged(name: str, array: Array, kind: TensorType) -> tuple[int, Made] | None:
    """Nearest pixels by whole factors."""
    if array.ndim != 4 or not all(isinstance(size, int) for size in kind.shape[2:]):
        return None
    n, channels, height, width = array.shape
    by_y, by_x = (
        int(size) // old for size, old in zip(kind.shape[2:], (height, width), strict=True)
    )
    if (by_y * height, by_x * width) != kind.shape[2:]:
        return None
    shape = (n, channels, height, by_y, width, by_x)
    x = np.broadcast_to(array[:, :, :, None, :, None], shape)
    return 1, lambda to: (Copy(name, x, to.reshape(shape)),)


def _shuffled(name: str, array: Array, by: int) -> tuple[int, Made] | None:
    if array.ndim != 4:
        return None
    n, channels, height, width = array.shape
    x = array.reshape(n, channels // by**2, by, by, height, width).transpose(0, 1, 4, 2, 5, 3)
    return 1, lambda to: (Copy(name, x, to.reshape(x.shape)),)


def _unshuffled(name: str, array: Array, by: int) -> tuple[int, Made] | None:
    if array.ndim != 4:
        return None
    n, channels, height, width = array.shape
    x = array.reshape(n, channels, height // by, by, width // by, by).transpose(0, 1, 3, 5, 2, 4)
    return 1, lambda to: (Copy(name, x, to.reshape(x.shape)),)


def _rolled(name: str, array: Array, shifts: list[int], axes: list[int]) -> tuple[int, Made] | None:
    if len(shifts) != len(axes):
        return None
    cuts: list[list[tuple[slice, slice]]] = [[(slice(None), slice(None))]] * array.ndim
    for shift, axis in zip(shifts, axes, strict=True):
        size = array.shape[axis]
        at = shift % size if size else 0
        halves = [(slice(0, size - at), slice(at, size)), (slice(size - at, size), slice(0, at))]
        cuts[axis] = [pair for pair in halves if pair[0].start != pair[0].stop]

    def made(to: Array) -> tuple[Copy, ...]:
        return tuple(
            Copy(name, array[tuple(a for a, _ in cut)], to[tuple(b for _, b in cut)])
            for cut in product(*cuts)
        )

    return innermost(array), made


def _repeated(name: str, array: Array, times: list[int]) -> tuple[int, Made] | None:
    lead = len(times) - array.ndim
    if lead < 0:
        return None
    array = array.reshape((1,) * lead + array.shape)
    shape = [n for pair in zip(times, array.shape, strict=True) for n in pair]
    one = [n for size in array.shape for n in (1, size)]
    x = np.broadcast_to(array.reshape(one), shape)
    return len(times) - 1, lambda to: (Copy(name, x, to.reshape(shape)),)


def walked(*arrays: Array) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
    """Sizes, and strides in floats of arrays of one shape, with as few axes as possible.

    The last array's numbers are taken in the order in which they lie.
    """
    shape, last = arrays[0].shape, arrays[-1]
    order = sorted(range(last.ndim), key=lambda axis: -abs(last.strides[axis]))
    axes = [axis for axis in order if shape[axis] != 1]
    groups: list[list[int]] = []
    for axis in axes:
        if groups and all(
            a.strides[groups[-1][-1]] == a.strides[axis] * shape[axis] for a in arrays
        ):
            groups[-1].append(axis)
        else:
            groups.append([axis])
    sizes = tuple(math.prod(shape[axis] for axis in group) for group in groups) or (1,)
    steps = tuple(tuple(a.strides[group[-1]] // 4 for group in groups) or (1,) for a in arrays)
    return sizes, steps


def in_order(sizes: Sequence[int], strides: Sequence[int]) -> tuple[list[int], list[int]]:
    """Axes of an array in their order, with as few as possible: sizes, and strides in floats.

    Args:
        sizes: of the axes.
        strides: in bytes.
    """
    made: list[tuple[int, int]] = []
    for size, stride in zip(sizes, strides, strict=True):
        if made and made[-1][1] == stride * size:
            made[-1] = (made[-1][0] * size, stride)
        elif size != 1 or not made:
            made.append((size, stride))
    return [size for size, _ in made], [stride // 4 for _, stride in made]
