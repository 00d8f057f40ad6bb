"""Nodes that put one tensor around or into another, as copies: padding of all kinds, scattering."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from irbin.emit.copies import Arrays, Copy, Made, arguments, innermost
from irbin.program.boxes import PADDING
from irbin.program.types import Node, Ref
from irbin.runtime.arrays import Array

MODES = {
    "aten.reflection_pad2d.default": "reflect",
    "aten.replication_pad2d.default": "replicate",
}
"""Operators that say by their name how they pad."""


def around_of(node: Node, arrays: Arrays, known: Mapping[str, Any]) -> tuple[int, Made] | None:
    """The axis that a node's result has innermost, and its copies into it; None if it is another.

    Args:
        node: any.
        arrays: all that may be read.
        known: integers by name.
    """
    op, args = node.op, arguments(node, arrays, known)
    match op, args:
        case "aten.slice_scatter.default", [Ref(name), Ref(part), axis, *rest]:
            given: list[Any] = [*rest, None, None, None]
            start, end, step = given[:3]
            return _scattered(arrays, name, part, axis, slice(start, _end(end), step))
        case "aten.select_scatter.default", [Ref(name), Ref(part), int(axis), int(index)]:
            return _scattered(arrays, name, part, axis, index)
        case _, [Ref(name), list() as amounts, *rest] if op in PADDING or op in MODES:
            mode, value = _mode(op, rest)
            return _padded(name, arrays[name], amounts, mode, value)
    return None


def _end(end: int | None) -> int | None:
    return None if end is None or end >= 2**62 else end


def _scattered(
    arrays: Arrays, name: str, part: str, axis: int, at: slice | int
) -> tuple[int, Made] | None:
    if part not in arrays or arrays[part].dtype != np.float32:
        return None

    def made(to: Array) -> tuple[Copy, ...]:
        place = np.moveaxis(to, axis, 0)[at]
        if isinstance(at, slice):
            place = np.moveaxis(place, 0, axis)
        return Copy(name, arrays[name], to), Copy(part, arrays[part], place)

    return innermost(arrays[name]), made


def _mode(op: str, rest: Sequence[Any]) -> tuple[str, float]:
    if op in MODES:
        return MODES[op], 0.0
    if op == "aten.constant_pad_nd.default":
        return "constant", float((*rest, 0.0)[0])
    given = [*rest, *("constant", None)[len(rest) :]]
    mode, value = given[:2]
    return str(mode), float(value or 0.0)


Span = tuple[slice, slice]
"""Part of the result's axis, and part of the source's that is copied there."""


def _padded(
    name: str, array: Array, amounts: Sequence[int], mode: str, value: float
) -> tuple[int, Made] | None:
    n_axes = len(amounts) // 2
    if n_axes > array.ndim or mode not in ("constant", "reflect", "replicate", "circular"):
        return None
    around = [(0, 0)] * (array.ndim - n_axes)
    around += [(amounts[2 * i], amounts[2 * i + 1]) for i in reversed(range(n_axes))]
    if mode != "constant" and any(min(pair) < 0 for pair in around):
        return None
    spans = [_spans(size, *pair, mode) for size, pair in zip(array.shape, around, strict=True)]

    def made(to: Array) -> tuple[Copy, ...]:
        filled: tuple[Copy, ...] = ()
        if mode == "constant":
            filled = (Copy(None, np.broadcast_to(np.float32(value), to.shape), to),)
        copies = []
        for cut in product(*spans):
            place, read = to[tuple(a for a, _ in cut)], array[tuple(b for _, b in cut)]
            copies.append(Copy(name, np.broadcast_to(read, place.shape), place))
        return (*filled, *copies)

    return innermost(array), made


def _spans(size: int, before: int, behind: int, mode: str) -> list[Span]:
    """What an axis is put together from."""
    first, last = max(before, 0), size + before + min(behind, 0)
    whole = (slice(first, last), slice(max(-before, 0), size + min(behind, 0)))
    if mode == "constant":
        return [whole]
    ahead, after = slice(0, before), slice(size + before, size + before + behind)
    if mode == "replicate":
        sides = [(ahead, slice(0, 1)), (after, slice(size - 1, size))]
    elif mode == "circular":
        sides = [(ahead, slice(size - before, size)), (after, slice(0, behind))]
    else:
        back = None if size == behind + 1 else size - 2 - behind
        sides = [(ahead, slice(before, 0, -1)), (after, slice(size - 2, back, -1))]
    return [whole, *((to, of) for to, of in sides if to.start != to.stop)]
