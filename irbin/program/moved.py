"""What operators that compute nothing do with an array: which numbers lie where in the result.

Each is tried on arrays; NumPy's views say what is read, and what part of the result it fills.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irbin.program.types import Node, Value

Like = NDArray[np.int8]
"""A tensor as it lies in memory, a byte a number."""
Pairs = list[tuple[Like, Like]]
"""What is read, and the part of the result that it fills."""
Copies = Callable[[Like], Pairs]
Moved = tuple[Like | None, Copies]
"""What the result lies like in memory, if that is known, and what fills it."""
Read = Callable[[Value], Like]


class NotMoved(Exception):  # noqa: N818 - no error: it is left to others
    """The node is another."""


def _arguments(node: Node, n: int, *defaults: Value) -> tuple[Any, ...]:
    """Its first n arguments, with defaults for those that are missing."""
    if node.kwargs or len(node.args) > n:
        raise NotMoved
    given = (*node.args, *defaults[len(defaults) - (n - len(node.args)) :])
    if len(given) != n:
        raise NotMoved
    return given


def _joined(node: Node, read: Read, shape: tuple[int, ...]) -> Moved:
    parts, axis = _arguments(node, 2, 0)
    arrays = [read(part) for part in parts]
    if axis % len(shape) == 0 or sum(a.shape[axis] for a in arrays) != shape[axis]:
        raise NotMoved  # images, or sizes that do not fit

    def copies(to: Like) -> Pairs:
        ends = np.cumsum([a.shape[axis] for a in arrays])[:-1]
        return list(zip(arrays, np.split(to, ends, axis), strict=True))

    return _largest(arrays), copies


def _stacked(node: Node, read: Read, shape: tuple[int, ...]) -> Moved:
    parts, axis = _arguments(node, 2, 0)
    arrays = [read(part) for part in parts]
    if axis % len(shape) == 0 or len(arrays) != shape[axis]:
        raise NotMoved

    def copies(to: Like) -> Pairs:
        return list(zip(arrays, np.moveaxis(to, axis, 0), strict=True))

    return np.expand_dims(_largest(arrays), axis), copies


def _largest(arrays: list[Like]) -> Like:
    return max(arrays, key=lambda one: one.size)


def _flipped(node: Node, read: Read, _: tuple[int, ...]) -> Moved:
    source, axes = _arguments(node, 2)
    x = read(source)
    if any(axis % x.ndim == 0 for axis in axes):
        raise NotMoved
    return x, lambda to: [(np.flip(x, tuple(axes)), to)]


def _rolled(node: Node, read: Read, _: tuple[int, ...]) -> Moved:
    source, shifts, axes = _arguments(node, 3, ())
    x = read(source)
    if len(shifts) != len(axes) or any(axis % x.ndim == 0 for axis in axes):
        raise NotMoved
    cuts: list[list[tuple[slice, slice]]] = [[(slice(None), slice(None))]] * x.ndim
    for shift, axis in zip(shifts, axes, strict=True):
        size = x.shape[axis]
        at = shift % size
        halves = [(slice(0, size - at), slice(at, size)), (slice(size - at, size), slice(0, at))]
        cuts[axis] = [pair for pair in halves if pair[0].start != pair[0].stop]
    return x, lambda to: _cut(x, to, cuts)


def _cut(x: Like, to: Like, cuts: list[list[tuple[slice, slice]]]) -> Pairs:
    """Every choice of a pair of slices an axis: what is read, and where it goes."""
    return [
        (x[tuple(a for a, _ in chosen)], to[tuple(b for _, b in chosen)])
        for chosen in product(*cuts)
    ]


def _enlarged(node: Node, read: Read, shape: tuple[int, ...]) -> Moved:
    """Nearest pixels by whole factors."""
    x = read(node.args[0])
    if x.ndim != 4 or shape[:2] != x.shape[:2] or node.kwargs:
        raise NotMoved
    n, channels, height, width = x.shape
    by_y, by_x = shape[2] // height, shape[3] // width
    factors = node.args[2] if len(node.args) > 2 else None
    is_said = factors is None or factors == (float(by_y), float(by_x))
    if (by_y * height, by_x * width) != shape[2:] or not is_said:
        raise NotMoved
    parts = (n, channels, height, by_y, width, by_x)
    repeated = np.broadcast_to(x[:, :, :, None, :, None], parts)
    return x, lambda to: [(repeated, _apart(to, parts))]


def _apart(to: Like, shape: tuple[int, ...]) -> Like:
    """Axes taken apart where that moves nothing."""
    made = to.reshape(shape)
    if not np.may_share_memory(made, to):
        raise NotMoved
    return made


def _shuffled(node: Node, read: Read, _: tuple[int, ...]) -> Moved:
    source, by = _arguments(node, 2)
    x = read(source)
    n, channels, height, width = x.shape
    inner = (n, channels // by**2, by, by, height, width)
    turned = _apart(x, inner).transpose(0, 1, 4, 2, 5, 3)
    return x, lambda to: [(turned, _apart(to, turned.shape))]


def _unshuffled(node: Node, read: Read, _: tuple[int, ...]) -> Moved:
    source, by = _arguments(node, 2)
    x = read(source)
    n, channels, height, width = x.shape
    inner = (n, channels, height // by, by, width // by, by)
    turned = _apart(x, inner).transpose(0, 1, 3, 5, 2, 4)
    return x, lambda to: [(turned, _apart(to, turned.shape))]


def _repeated(node: Node, read: Read, shape: tuple[int, ...]) -> Moved:
    source, times = _arguments(node, 2)
    x = read(source)
    x = x[(None,) * (len(shape) - x.ndim)]
    if len(times) != x.ndim or times[0] != 1:
        raise NotMoved  # images
    n, *inner = x.shape
    parts = (n, *(one for pair in zip(times[1:], inner, strict=True) for one in pair))
    apart = _apart(x, (n, *(one for size in inner for one in (1, size))))
    repeated = np.broadcast_to(apart, parts)
    return x, lambda to: [(repeated, _apart(to, parts))]


def _scattered(node: Node, read: Read, _: tuple[int, ...]) -> Moved:
    """A part of one tensor in place of one's."""
    if node.op == "aten.select_scatter.default":
        source, part, axis, index = _arguments(node, 4)
        x, inner = read(source), read(part)
        inner = np.expand_dims(inner, axis)
        begin = index % x.shape[axis]
        end = begin + 1
    else:
        source, part, axis, start, stop, step = _arguments(node, 6, 0, None, None, 1)
        x, inner = read(source), read(part)
        begin, end, step = slice(start, stop, step).indices(x.shape[axis])
        if step != 1:
            raise NotMoved
    if end - begin != inner.shape[axis]:
        raise NotMoved
    if (begin, end) == (0, x.shape[axis]):
        return inner, lambda to: [(inner, to)]
    if axis % x.ndim == 0:
        raise NotMoved

    def copies(to: Like) -> Pairs:
        front, place, behind = np.split(to, [begin, end], axis)
        before, _, after = np.split(x, [begin, end], axis)
        return [(before, front), (inner, place), (after, behind)]

    return x, copies


def _padded(node: Node, read: Read, _: tuple[int, ...]) -> Moved:
    """Mirrored, repeated or constant borders; less than nothing is cut away."""
    x = read(node.args[0])
    mode, value = _border(node)
    around = node.args[1]
    if not isinstance(around, tuple) or len(around) // 2 >= x.ndim:
        raise NotMoved
    pairs = [(0, 0)] * (x.ndim - len(around) // 2)
    numbers = [one for one in around if isinstance(one, int)]
    if len(numbers) < len(around) or len(around) % 2:
        raise NotMoved
    pairs += [(numbers[i], numbers[i + 1]) for i in range(len(around) - 2, -1, -2)]
    cuts = [
        _places(size, before, after, mode)
        for size, (before, after) in zip(x.shape, pairs, strict=True)
    ]

    filling = read(value) if mode == "constant" else None

    def copies(to: Like) -> Pairs:
        beyond = [] if filling is None else _around(to, cuts, filling)
        return [*_cut(x, to, cuts), *beyond]

    return x, copies


def _around(to: Like, cuts: list[list[tuple[slice, slice]]], value: Like) -> Pairs:
    """What lies beyond, axis by axis: inside of the axes before, whole along those behind."""
    made: Pairs = []
    inside: list[slice] = []
    for axis, ((_, place),) in enumerate(cuts):
        for beyond in (slice(0, place.start), slice(place.stop, to.shape[axis])):
            part = to[(*inside, beyond)]
            if part.size:
                made.append((np.broadcast_to(value, part.shape), part))
        inside.append(place)
    return made


def _border(node: Node) -> tuple[str, Value]:
    """(mode, value) of a padding."""
    match node.op:
        case "aten.reflection_pad2d.default":
            return "reflect", 0.0
        case "aten.replication_pad2d.default":
            return "replicate", 0.0
        case "aten.constant_pad_nd.default":
            _, _, value = _arguments(node, 3, 0.0)
            return "constant", value
    _, _, mode, value = _arguments(node, 4, "constant", None)
    return mode, 0.0 if value is None else value


def _places(size: int, before: int, after: int, mode: str) -> list[tuple[slice, slice]]:
    """Along an axis: slices of what is read, and where they go."""
    begin, end = max(0, -before), size - max(0, -after)
    first = max(0, before)
    made = [(slice(begin, end), slice(first, first + end - begin))]
    if end <= begin:
        raise NotMoved
    if mode == "constant":
        return made
    if min(before, after) < 0 or mode not in ("reflect", "replicate"):
        raise NotMoved
    if mode == "reflect":
        if max(before, after) >= size:
            raise NotMoved
        if before:
            made.append((slice(before, 0, -1), slice(0, before)))
        if after:
            low = size - 2 - after
            turned = slice(size - 2, None if low < 0 else low, -1)
            made.append((turned, slice(before + size, before + size + after)))
        return made
    behind = before + size
    made += [(slice(0, 1), slice(i, i + 1)) for i in range(before)]
    made += [(slice(size - 1, size), slice(behind + i, behind + i + 1)) for i in range(after)]
    return made


def _told_apart(node: Node, read: Read, _: tuple[int, ...]) -> Moved:
    """A reshape that has to move numbers."""
    x = read(node.args[0])
    return None, lambda to: [(x, _apart(to, x.shape))]


MOVES: dict[str, Callable[[Node, Read, tuple[int, ...]], Moved]] = {
    "aten.cat.default": _joined,
    "aten.stack.default": _stacked,
    "aten.flip.default": _flipped,
    "aten.roll.default": _rolled,
    "aten.upsample_nearest2d.vec": _enlarged,
    "aten.pixel_shuffle.default": _shuffled,
    "aten.pixel_unshuffle.default": _unshuffled,
    "aten.repeat.default": _repeated,
    "aten.tile.default": _repeated,
    "aten.slice_scatter.default": _scattered,
    "aten.select_scatter.default": _scattered,
    "aten.pad.default": _padded,
    "aten.constant_pad_nd.default": _padded,
    "aten.reflection_pad2d.default": _padded,
    "aten.replication_pad2d.default": _padded,
    "aten.reshape.default": _told_apart,
}
"""What each operator does: which tensors it reads, the shape of its result, what fills it."""
