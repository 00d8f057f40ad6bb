"""Operations on tensors of any shapes that broadcast, number by number.

One rounding each, so that C gives torch's bits, but for roots and powers, which are computed by
definition.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from irbin.emit.copies import Copy, innermost
from irbin.program.types import Node, Ref, TensorType
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
    "aten.sqrt.default": "ROOT",
    "aten.rsqrt.default": "INVERSE_ROOT",
    "aten.exp.default": "POWER",
}
"""Operators of one tensor."""
POWERS = {2: "SQUARE", 0.5: "ROOT", -0.5: "INVERSE_ROOT"}
"""Operations by what a tensor is raised to."""
COMPARED: dict[str, str] = {
    "aten.lt.Scalar": "LESS",
    "aten.le.Scalar": "LESS_OR_EQUAL",
    "aten.gt.Scalar": "GREATER",
    "aten.ge.Scalar": "GREATER_OR_EQUAL",
    "aten.eq.Scalar": "EQUAL",
    "aten.ne.Scalar": "NOT_EQUAL",
    "aten.lt.Tensor": "LESS",
    "aten.le.Tensor": "LESS_OR_EQUAL",
    "aten.gt.Tensor": "GREATER",
    "aten.ge.Tensor": "GREATER_OR_EQUAL",
    "aten.eq.Tensor": "EQUAL",
    "aten.ne.Tensor": "NOT_EQUAL",
}
"""Operators whose results are 0 or 1, which C keeps as floats."""
LOGICAL: dict[str, str] = {
    "aten.logical_and.default": "TIMES",
    "aten.logical_or.default": "MAXIMUM",
    "aten.bitwise_and.Tensor": "TIMES",
    "aten.bitwise_or.Tensor": "MAXIMUM",
}
"""Operators of two that are 0 or 1."""
NOT = ("aten.logical_not.default", "aten.bitwise_not.default")
"""Operators of one that is 0 or 1."""
CHOOSING = {
    "aten.where.self": (0, 1, 2),
    "aten.where.ScalarOther": (0, 1, 2),
    "aten.where.ScalarSelf": (0, 1, 2),
    "aten.masked_fill.Scalar": (1, 2, 0),
}
"""Operators that take one of two numbers: which argument says so, which are taken for 1 and 0."""
FLAGS = frozenset((*COMPARED, *LOGICAL, *NOT))
"""Operators that give zeros and ones."""


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
    if kind.dtype != ("bool" if node.op in FLAGS else "float32"):
        return None
    operation, args, factor = _read(node, flags)
    read = [_operand(arg, arrays) for arg in args]
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
    if node.op in LOGICAL and len(args) == 2 and _are_flags(args, flags):
        return LOGICAL[node.op], args, 1.0
    if node.op in NOT and len(args) == 1 and _are_flags(args, flags):
        return "EQUAL", [*args, 0], 1.0
    if node.op == "aten.pow.Tensor_Scalar" and len(args) == 2 and args[1] in POWERS:
        return POWERS[args[1]], args[:1], 1.0
    return "", [], 1.0


def _are_flags(args: list[Any], flags: Collection[str]) -> bool:
    return all(isinstance(one, Ref) and one.name in flags for one in args)


def chosen_of(
    node: Node, arrays: Mapping[str, Array], flags: Collection[str]
) -> tuple[int, Callable[[Array], tuple[Copy, Meeting]]] | None:
    """What takes one of two numbers in every place; None if a node does no such thing.

    Args:
        node: any.
        arrays: all that may be read.
        flags: names of those that hold zeros and ones alone.
    """
    kind = node.type
    if node.op not in CHOOSING or node.kwargs or len(node.args) != 3:
        return None
    at, yes, no = (node.args[i] for i in CHOOSING[node.op])
    if not isinstance(at, Ref) or at.name not in flags or at.name not in arrays:
        return None
    read = [_operand(value, arrays) for value in (yes, no)]
    taken, left = read
    if taken is None or left is None or not isinstance(kind, TensorType):
        return None
    if kind.dtype != "float32":
        return None
    (first, a), (second, b) = taken, left
    whole = max((b, a), key=lambda one: (one.size, one.ndim))
    axis = innermost(whole) if whole.ndim == len(kind.shape) else len(kind.shape) - 1

    def made(to: Array) -> tuple[Copy, Meeting]:
        both = (np.broadcast_to(arrays[at.name], to.shape), np.broadcast_to(a, to.shape))
        rest = Copy(second, np.broadcast_to(b, to.shape), to)
        return rest, Meeting("WHERE", (at.name, first), both, to)

    return axis, made


def _operand(value: Any, arrays: Mapping[str, Array]) -> Operand | None:
    if isinstance(value, Ref):
        array = arrays.get(value.name)
        is_float = array is not None and array.dtype == np.float32
        return (value.name, array) if is_float and array is not None else None
    if isinstance(value, int | float) and not isinstance(value, bool):
        with np.errstate(over="ignore"):
            return None, np.array(value, np.float32)
    return None
