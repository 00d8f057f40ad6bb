"""Nodes that compute nothing: sizes, and other looks at an array that stays where it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from irbin.program.claims import INTEGERS
from irbin.program.shapes import SIZE, sizes
from irbin.program.types import Node, Ref, TensorType, Value, ValueType
from irbin.runtime.arrays import Array

VIEWS = (
    "aten.reshape.default",
    "aten.permute.default",
    "aten.transpose.int",
    "aten.squeeze.dim",
    "aten.squeeze.dims",
    "aten.unsqueeze.default",
    "aten.slice.Tensor",
    "aten.select.int",
    "aten.expand.default",
)
"""Operators that may do no more than look at an array in another way."""


def integer(
    node: Node, known: Mapping[str, Any], types: Mapping[str, ValueType], n: int
) -> int | None:
    """What a node on sizes gives for n images, or None if that is known only when it runs.

    Args:
        node: any.
        known: integers by name.
        types: of tensors by name.
        n: images.
    """
    try:
        if node.op in INTEGERS:
            a, b = (filled(value, known) for value in node.args)
            return INTEGERS[node.op](a, b)
        if node.op == SIZE:
            source, axis = node.args
            kind = types[source.name] if isinstance(source, Ref) else None
            return sizes(kind, n)[axis] if isinstance(kind, TensorType) else None  # type: ignore[index]  # an `int`, see the vocabulary
    except (LookupError, TypeError, ValueError, ArithmeticError):
        pass  # whoever runs it says what is wrong
    return None


def view(node: Node, array: Array, known: Mapping[str, Any]) -> Array | None:
    """What a node shows of an array, or None if it would copy, fails or is no view.

    Args:
        node: any that reads `array` first.
        array: its first argument.
        known: integers by name.
    """
    if node.op not in VIEWS or node.kwargs:
        return None
    try:
        seen = look(node, array, known)
    except (LookupError, TypeError, ValueError):
        return None
    is_there = seen.size == 0 or np.may_share_memory(seen, array)
    return seen if is_there else None


def look(node: Node, array: Array, known: Mapping[str, Any]) -> Array:
    """What a node of `VIEWS` gives, copied if it must be.

    Args:
        node: it reads `array` first.
        array: its first argument.
        known: integers by name.

    Raises:
        KeyError: an integer is not known.
        TypeError, ValueError: the arguments do not fit.
    """
    op, args = node.op, [filled(value, known) for value in node.args[1:]]
    match op, args:
        case "aten.permute.default", [axes]:
            return array.transpose(axes)
        case "aten.transpose.int", [one, other]:
            return array.swapaxes(one, other)
        case "aten.unsqueeze.default", [axis]:
            return np.expand_dims(array, axis)
        case "aten.squeeze.dim" | "aten.squeeze.dims", [axes]:
            chosen = axes if isinstance(axes, list) else [axes]
            return array.squeeze(tuple(a for a in chosen if array.shape[a] == 1))
        case "aten.reshape.default", [shape]:
            return array.reshape(shape)
        case "aten.select.int", [axis, index]:
            taken: Array = np.moveaxis(array, axis, 0)[index, ...]  # of a vector too an array
            return taken
        case "aten.slice.Tensor", _:
            return _sliced(array, *args)
        case "aten.expand.default", [shape, *_]:
            return _expanded(array, shape)
    raise TypeError(f"expected arguments of `{op}`")


def _sliced(
    array: Array,
    axis: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Array:
    return np.moveaxis(np.moveaxis(array, axis, 0)[slice(start, end, step)], 0, axis)


def _expanded(array: Array, shape: list[int]) -> Array:
    """Repeated without a copy; −1 stands for a size that stays."""
    missing = len(shape) - array.ndim
    sizes = [array.shape[axis - missing] if size == -1 else size for axis, size in enumerate(shape)]
    made = np.broadcast_to(array, sizes)
    # whoever reads it writes nothing, and torch has no arrays that may not be written
    return np.lib.stride_tricks.as_strided(array, made.shape, made.strides)


def filled(value: Value, known: Mapping[str, Any]) -> Any:
    """An argument with numbers in place of their names.

    Raises:
        KeyError: a name is not known.
    """
    if isinstance(value, Ref):
        return known[value.name]
    if isinstance(value, tuple):
        return [filled(item, known) for item in value]
    return value
