"""Sizes that are expressions of the batch size N, as a program writes them."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from functools import lru_cache

from irbin.bounds import MAX_COMPUTED, MAX_ELEMENTS, MAX_EXPRESSION, MAX_INTEGER
from irbin.errors import ArtifactError
from irbin.program.types import BATCH, INT, TensorType

SIZE = "aten.sym_size.int"
"""The node that reads one, of the images alone."""

_OPERATIONS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: pow,
}
_TRIED = (0, 1, 2, 3, 8)
"""Batch sizes for which a type is looked at when a program is made."""


def sizes(kind: TensorType, n: int) -> tuple[int, ...]:
    """The shape for a batch of n images.

    Raises:
        ArtifactError: a size is an expression of another kind than sums and products of N, below
            zero or above its bound, or the tensor has more elements than n images may have.
    """
    shape = tuple(s if isinstance(s, int) else _evaluate(s, n) for s in kind.shape)
    if shape and min(shape) < 0:
        raise ArtifactError(
            f"expected sizes of at least 0 for every N, got {min(shape)} in {kind} for N = {n}"
        )
    if math.prod(shape) > max(n, 1) * MAX_ELEMENTS:
        raise ArtifactError(
            f"expected at most {MAX_ELEMENTS} elements an image, got {math.prod(shape)} in {kind} "
            f"for N = {n}"
        )
    return shape


def type_problem(kind: TensorType) -> str | None:
    """What is wrong with a type, in words, or None."""
    if kind.dtype == INT:
        return None
    for size in kind.shape:
        if isinstance(size, int) and size > MAX_INTEGER:
            return f"expected sizes up to {MAX_INTEGER}, got {size}"
    try:
        for n in (1,) if kind.is_static else _TRIED:
            sizes(kind, n)
    except ArtifactError as error:
        return str(error)
    return None


def _evaluate(text: str, n: int) -> int:
    if text == BATCH:
        return n
    try:
        return _value(_parsed(text), n)
    except (SyntaxError, KeyError, ValueError, ZeroDivisionError, RecursionError, MemoryError):
        short = text if len(text) <= MAX_EXPRESSION else f"{text[:20]}…"
        raise ArtifactError(
            f"expected a size that is a sum or product of N, got `{short}`"
        ) from None
    except OverflowError:
        raise ArtifactError(
            f"expected a size up to {MAX_COMPUTED} on the way to `{text}` for N = {n}"
        ) from None


@lru_cache(maxsize=4096)
def _parsed(text: str) -> ast.expr:
    if len(text) > MAX_EXPRESSION:
        raise ValueError(text)
    return ast.parse(text, mode="eval").body


def _value(node: ast.expr, n: int) -> int:
    match node:
        case ast.Constant(value=int(number)):
            return _bounded(number)
        case ast.Name(id=name) if name == BATCH:
            return n
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, n)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATIONS:
            a, b = _value(left, n), _value(right, n)
            if isinstance(op, ast.Pow) and not 0 <= b <= 8:
                raise KeyError("power")
            return _bounded(_OPERATIONS[type(op)](a, b))
    raise KeyError(ast.dump(node))


def _bounded(value: int) -> int:
    if abs(value) > MAX_COMPUTED:
        raise OverflowError(value)
    return value
