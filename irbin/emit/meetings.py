"""Operations on tensors of any shapes that broadcast, one rounding each: C gives torch's bits."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from irbin.emit.copies import innermost
from irbin.program.types import Node, Ref, TensorType, Value
from irbin.runtime.arrays import Array

TWO: dict[str, str] = {
    "aten.add.Tensor": "PLUS",
    "aten.sub.Tensor": "MINUS",
    "aten.mul.Tensor": "TIMES",
    "aten.div.Tensor": "OVER",
    "aten.maximum.default": "MAXIMUM",
    "aten.minimum.default": "MINIMUM",
}
"""Operators of two tensors, or of one and a number."""
ONE: dict[str, str] = {
    "aten.neg.default": "NEGATIVE",
    "aten.abs.default": "ABSOLUTE",
    "aten.square.default": "SQUARE",
    "aten.reciprocal.default": "RECIPROCAL",
}
"""Operators of one tensor; not of roots, which torch's libraries need not round to nearest."""
COMPARED: dict[str, str] = {
    "aten.lt.Scalar": "LESS",
    "aten.le.Scalar": "LESS_OR_EQUAL",
    "aten.gt.Scalar": "GREATER",
    "aten.ge.Scalar": "GREATER_OR_EQUAL",
}
"""Operators whose results are 0 or 1, which C keeps as floats."""
SUM = "aten.sum.dim_IntList"


@dataclass(frozen=True, eq=False)
class Meeting:
    """An operation on every pair of numbers."""

    operation: str
    """What the C calls it."""
    names: tuple[str | None, str | None]
    """Of what is read; None for a number, or where one alone is read."""
    arrays: tuple[Array, Array]
    """As they are read, of the result's shape; of a number an array of it."""
    to: Array
    """What is written, in the result's memory."""
    factor: float = 1.0
    """By which the second is multiplied first; other than 1 only of zeros and ones."""
    into: str | None = None
    """What is written, where it is not the node's result."""


Operand = tuple[str | None, Array]


def meeting_of(
    node: Node, arrays: Mapping[str, Array], flags: Collection[str] = ()
) -> tuple[int, Callable[[Array], Meeting]] | None:
    """The axis that a node's result has innermost, and what it is; None if it is no such operation.

    Args:
        node: any.
        arrays: all that may be read.
        flags: names of those that hold zeros and ones alone.
    """
    kind = node.type
    if not isinstance(kind, TensorType):
        return None
    if kind.dtype != ("bool" if node.op in COMPARED else "float32"):
        return None
    operation, args, factor = _read(node, flags)
    read = _summed(node, arrays) if node.op == SUM else [_operand(arg, arrays) for arg in args]
    operands = [one for one in read if one is not None]
    if not operation or len(operands) != len(read) or all(name is None for name, _ in operands):
        return None
    (first, a), (second, b) = (operands * 2)[:2]
    whole = max((a, b), key=lambda one: (one.size, one.ndim))
    axis = innermost(whole) if whole.ndim == len(kind.shape) else len(kind.shape) - 1

    def made(to: Array) -> Meeting:
        both = (np.broadcast_to(a, to.shape), np.broadcast_to(b, to.shape))
        return Meeting(operation, (first, second), both, to, factor)

    return axis, made


def _summed(node: Node, arrays: Mapping[str, Array]) -> list[Operand | None]:
    """Of a sum along one axis of two numbers: any order of those gives the same."""
    defaults: tuple[Value, ...] = ((), False, None)
    source, axes, keeps, dtype = (*node.args, *defaults[len(node.args) - 1 :])
    array = arrays.get(source.name) if isinstance(source, Ref) else None
    if array is None or dtype is not None or not isinstance(axes, tuple) or len(axes) != 1:
        return [None]
    axis = axes[0]
    if not isinstance(axis, int) or array.shape[axis] != 2:
        return [None]
    halves = np.split(array, 2, axis)
    name = source.name if isinstance(source, Ref) else None
    return [(name, half if keeps else half.squeeze(axis)) for half in halves]


def _read(node: Node, flags: Collection[str]) -> tuple[str, list[Any], float]:
    """The operation, what it reads in order, and the second's factor; '' for none."""
    args, kwargs, factor = list(node.args), dict(node.kwargs), 1.0
    alpha = kwargs.pop("alpha", 1)
    if alpha != 1 and isinstance(alpha, int | float) and len(args) == 2:
        is_exact = isinstance(args[1], Ref) and args[1].name in flags
        factor = float(np.float32(alpha)) if is_exact else 0.0
    if kwargs or not factor:
        return "", [], 1.0
    if node.op in TWO | COMPARED and len(args) == 2:
        return (TWO | COMPARED)[node.op], args, factor
    if node.op in ONE and len(args) == 1:
        return ONE[node.op], args, 1.0
    if node.op == "aten.rsub.Scalar" and len(args) == 2 and factor == 1.0:
        return "MINUS", args[::-1], 1.0
    if node.op == "aten.pow.Tensor_Scalar" and len(args) == 2 and args[1] == 2:
        return "SQUARE", args[:1], 1.0
    return ("SUM", args, 1.0) if node.op == SUM else ("", [], 1.0)


def _operand(value: Any, arrays: Mapping[str, Array]) -> Operand | None:
    if isinstance(value, Ref):
        array = arrays.get(value.name)
        is_float = array is not None and array.dtype == np.float32
        return (value.name, array) if is_float and array is not None else None
    if isinstance(value, int | float) and not isinstance(value, bool):
        with np.errstate(over="ignore"):
            return None, np.array(value, np.float32)
    return None
