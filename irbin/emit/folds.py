"""Sums, means, norms and the like along any axes of a tensor of any shape, as calls."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from irbin.emit.copies import Arrays, innermost
from irbin.kernels.tensor_reference import Folding, folded
from irbin.program.types import Node, Ref, TensorType
from irbin.runtime.arrays import Array, as_array, as_tensor
from irbin.runtime.operators import Operation, operation


@dataclass(frozen=True, eq=False)
class Fold:
    """One number of several. `tensor_reference.folded` says which."""

    names: tuple[str]
    """Of what is read."""
    arrays: tuple[Array]
    """As it is read."""
    axes: tuple[int, ...]
    """Along which numbers are taken together, in order."""
    folding: Folding
    """What becomes of them."""
    divisor: float
    """Of a mean or a variance."""
    to: Array
    """What is written: the array's shape with 1 along the axes."""
    into: str | None = None
    """What is written, where it is not the node's result."""


def _summed(axes: Any = None, keeps: bool = False, dtype: Any = None) -> tuple[Any, ...] | None:
    return None if dtype is not None else ("sum", axes, keeps, None)


def _mean(axes: Any = None, keeps: bool = False, dtype: Any = None) -> tuple[Any, ...] | None:
    return None if dtype is not None else ("mean", axes, keeps, 0)


def _norm(
    order: Any = 2, axes: Any = None, keeps: bool = False, dtype: Any = None
) -> tuple[Any, ...] | None:
    return None if order != 2 or dtype is not None else ("norm", axes, keeps, None)


def _variance(
    axes: Any = None, correction: Any = 1, keeps: bool = False, **named: Any
) -> tuple[Any, ...] | None:
    less = named.get("unbiased", correction)
    less = 1 if less is None else less
    return "variance", axes, keeps, less


def _deviation(axes: Any = None, unbiased: bool = True, keeps: bool = False) -> tuple[Any, ...]:
    return "deviation", axes, keeps, unbiased


def _largest(axes: Any = (), keeps: bool = False) -> tuple[Any, ...]:
    return "largest", axes, keeps, None


def _smallest(axes: Any = (), keeps: bool = False) -> tuple[Any, ...]:
    return "smallest", axes, keeps, None


_ARGUMENTS: Mapping[str, Callable[..., tuple[Any, ...] | None]] = {
    "aten.sum.dim_IntList": _summed,
    "aten.mean.dim": _mean,
    "aten.linalg_vector_norm.default": _norm,
    "aten.var.dim": _variance,
    "aten.var.correction": _variance,
    "aten.std.dim": _deviation,
    "aten.amax.default": _largest,
    "aten.amin.default": _smallest,
}
"""What each operator's arguments behind the first say: (which, axes, are they kept, correction)."""
_NAMES = {"dim": "axes", "keepdim": "keeps", "ord": "order"}


class _Asked:
    """What a call of an operator asks for; it must ask for what `Fold` can do."""

    def __init__(self, op: str, n_axes: int, args: Sequence[Any], named: Mapping[str, Any]) -> None:
        given = {_NAMES.get(name, name): value for name, value in named.items()}
        said = _ARGUMENTS[op](*args, **given)
        if said is None:
            raise TypeError("it asks for another type or norm")
        self.folding, axes, self.keeps, self._less = said
        axes = [axes] if isinstance(axes, int) else list(axes or range(n_axes))
        self.axes = tuple(axis % n_axes for axis in axes)

    def divisor(self, shape: Sequence[int]) -> float:
        """Of a mean or a variance."""
        n = math.prod(shape[axis] for axis in self.axes)
        return float(n if self._less is None else n - self._less)


def fold_of(node: Node, arrays: Arrays) -> tuple[int, Callable[[Array], Fold]] | None:
    """The axis that a node's result has innermost, and what it folds; None if it is another.

    Args:
        node: any.
        arrays: all that may be read.
    """
    kind = node.type
    if node.op not in _ARGUMENTS or not isinstance(kind, TensorType) or kind.dtype != "float32":
        return None
    first = node.args[0] if node.args else None
    x = arrays.get(first.name) if isinstance(first, Ref) else None
    if x is None or not isinstance(first, Ref) or x.dtype != np.float32 or not x.size:
        return None
    try:
        asked = _Asked(node.op, x.ndim, node.args[1:], node.kwargs)
    except (TypeError, ZeroDivisionError):
        return None
    divisor = asked.divisor(x.shape)
    if not kind.shape or divisor <= 0 or len(set(asked.axes)) < len(asked.axes):
        return None
    array, name = x, first.name
    axis = innermost(x) if len(kind.shape) == x.ndim else len(kind.shape) - 1

    def made(to: Array) -> Fold:
        whole = to if asked.keeps else np.expand_dims(to, asked.axes)
        return Fold((name,), (array,), asked.axes, asked.folding, divisor, whole)

    return axis, made


def _defined(op: str) -> Operation:
    """An operator as `tensor_reference.folded` has it, where C does it so."""

    def run(value: Any, *args: Any, **named: Any) -> Any:
        x = as_array(value)
        try:
            asked = _Asked(op, x.ndim, args, named)
        except TypeError:
            return operation(op)(value, *args, **named)
        made = folded(x, asked.axes, asked.folding, asked.divisor(x.shape))
        return as_tensor(made if asked.keeps else made.squeeze(asked.axes))

    return run


FOLDS: Mapping[str, Operation] = {op: _defined(op) for op in _ARGUMENTS}
"""What runs the operators, by definition."""
