"""Nodes that move no number, as looks at memory that is there: strides and beginnings.

`runtime.views` knows those that NumPy keeps without a copy; C reads any strides, so there are more:
parts, slices, what is repeated by a stride of 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from irbin.program.boxes import PADDING
from irbin.program.types import Node
from irbin.runtime.arrays import Array
from irbin.runtime.views import VIEWS, filled, view

SPLITS = ("aten.split.Tensor", "aten.split_with_sizes.default", "aten.unbind.int")
"""Operators with several results, each a part of what they read."""
_SAME = ("aten._to_copy.default", "aten.type_as.default")
_END = 2**62
"""From here on a slice's end is meant as the axis's."""


def parts(node: Node, array: Array, known: Mapping[str, Any]) -> list[Array] | None:
    """What a node of `SPLITS` shows, or None if it is another or does not fit.

    Args:
        node: it reads `array` first.
        array: its first argument.
        known: integers by name.
    """
    if node.op not in SPLITS or node.kwargs:
        return None
    try:
        args = [filled(value, known) for value in node.args[1:]]
        if node.op == "aten.unbind.int":
            return list(np.moveaxis(array, args[0] if args else 0, 0))
        size, axis = (*args, 0)[:2]
        length = array.shape[axis]
        lengths = size if isinstance(size, list) else [size] * -(-length // size)
        ends = np.cumsum(lengths)[:-1]
        return list(np.split(array, ends, axis))
    except (LookupError, TypeError, ValueError, ArithmeticError):
        return None


def look(node: Node, array: Array, known: Mapping[str, Any]) -> Array | None:
    """What a node shows of an array in place, or None if it has to move numbers or is another.

    Args:
        node: it reads `array` first.
        array: its first argument.
        known: integers by name.
    """
    if node.op in VIEWS:
        return view(node, array, known)
    try:
        args = [filled(value, known) for value in node.args[1:]]
        return None if node.kwargs and node.op not in _SAME else _shown(node, array, args)
    except (LookupError, TypeError, ValueError):
        return None


def _shown(node: Node, array: Array, args: Sequence[Any]) -> Array | None:
    match node.op, args:
        case "aten.slice.Tensor", _:
            return _sliced(array, args)
        case "aten.select.int", [axis, index]:
            chosen: Array = np.moveaxis(array, axis, 0)[index]
            return chosen
        case "aten.expand.default", [sizes, *_]:
            return _expanded(array, sizes)
        case "aten.flip.default", [axes]:
            return np.flip(array, tuple(axes))
    is_same = node.op in _SAME or (node.op in PADDING and not any(args[0]))
    shape = getattr(node.type, "shape", ())
    is_float = getattr(node.type, "dtype", "") == "float32"
    return array if is_same and is_float and len(shape) == array.ndim else None


def _sliced(array: Array, args: Sequence[Any]) -> Array:
    defaults: list[Any] = [0, None, None, 1]
    axis, start, end, step = [*args, *defaults[len(args) :]]
    end = None if end is None or end >= _END else end
    return np.moveaxis(np.moveaxis(array, axis, 0)[slice(start, end, step)], 0, axis)


def _expanded(array: Array, sizes: Sequence[int]) -> Array:
    lead = len(sizes) - array.ndim
    shape = tuple(array.shape[i - lead] if size == -1 else size for i, size in enumerate(sizes))
    return np.broadcast_to(array, shape)
