"""Sizes that are expressions of the batch size N, as a program writes them."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable

from irbin.errors import ArtifactError
from irbin.program.types import BATCH, TensorType

_OPERATIONS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: pow,
}


def sizes(kind: TensorType, n: int) -> tuple[int, ...]:
    """The shape for a batch of n images.

    Raises:
        ArtifactError: a size is an expression of another kind than sums and products of N.
    """
    return tuple(s if isinstance(s, int) else _evaluate(s, n) for s in kind.shape)


def _evaluate(text: str, n: int) -> int:
    try:
        return _value(ast.parse(text, mode="eval").body, n)
    except (SyntaxError, KeyError, ZeroDivisionError, RecursionError, MemoryError) as error:
        raise ArtifactError(
            f"expected a size that is a sum or product of N, got `{text}`"
        ) from error


def _value(node: ast.expr, n: int) -> int:
    match node:
        case ast.Constant(value=int(number)):
            return number
        case ast.Name(id=name) if name == BATCH:
            return n
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, n)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATIONS:
            a, b = _value(left, n), _value(right, n)
            if isinstance(op, ast.Pow) and not 0 <= b <= 8:
                raise KeyError("power")
            return _OPERATIONS[type(op)](a, b)
    raise KeyError(ast.dump(node))
