"""A program's declared types held against its arguments, for one batch size, before anything runs.

What a node declares is what all after it builds on: `growth.py` says what operators that can fill a
memory really give, sizes are computed, and what is computed once may not take more than its share.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from irbin.bounds import FOLDED_BYTES, FOLDED_RATIO, MAX_COMPUTED
from irbin.errors import ArtifactError
from irbin.program.growth import result_shape
from irbin.program.shapes import SIZE, sizes
from irbin.program.sized import Misfit, Sized, arguments_for
from irbin.program.types import INT, Node, TensorType, ValueType
from irbin.program.vocabulary import OWN_OPERATORS, signatures

BYTES = {
    "float32": 4,
    "float64": 8,
    "float16": 2,
    "bfloat16": 2,
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "uint8": 1,
    "bool": 1,
}
"""Of an element."""


def _bounded(operation: Callable[[int, int], int]) -> Callable[[int, int], int]:
    def compute(a: int, b: int) -> int:
        if operation in (operator.floordiv, operator.mod) and b == 0:
            raise ValueError("a division by zero")
        result = operation(a, b)
        if abs(result) > MAX_COMPUTED:
            raise ValueError(f"expected a size within ±{MAX_COMPUTED}, got {result}")
        return result

    return compute


INTEGERS: dict[str, Callable[[int, int], int]] = {
    "int_add": _bounded(operator.add),
    "int_sub": _bounded(operator.sub),
    "int_mul": _bounded(operator.mul),
    "int_floordiv": _bounded(operator.floordiv),
    "int_mod": _bounded(operator.mod),
}
"""Arithmetic on sizes; ValueError for what has no result within its bound."""


def check_claims(given: Mapping[str, TensorType], nodes: Iterable[Node], n: int) -> None:
    """Holds every node's declared type against what its arguments make, for n images.

    Args:
        given: types of inputs and constants.
        nodes: of a program, each checked by itself.
        n: images.

    Raises:
        ArtifactError: a size is negative or beyond its bound, or a type cannot be; names the node.
    """
    known: dict[str, Any] = {}
    for name, kind in given.items():
        known[name] = _of_type(kind, n, f"`{name}`")
    for node in nodes:
        where = f"node `{node.name}`"
        try:
            known[node.name] = _value_of(node, known, n, where)
        except (Misfit, ValueError) as error:
            raise ArtifactError(f"{where} ({node.op}): {error}") from error
        except (ArithmeticError, LookupError, TypeError, AttributeError) as error:
            raise ArtifactError(f"{where} ({node.op}): its arguments do not fit") from error


def folded_problem(constants: Mapping[str, TensorType], nodes: Iterable[Node]) -> str | None:
    """What is wrong with what constants alone make, which is computed when a folder is read."""
    stored = sum(_n_bytes(kind) for kind in constants.values())
    most, total, known = FOLDED_BYTES + FOLDED_RATIO * stored, 0, set(constants)
    for node in nodes:
        if known.issuperset(node.refs()):
            known.add(node.name)
            kinds = node.type if isinstance(node.type, tuple) else (node.type,)
            total += sum(map(_n_bytes, kinds))
            if total > most:
                return (
                    f"node `{node.name}` ({node.op}): expected at most {most} bytes that depend on "
                    f"constants alone, got {total}"
                )
    return None


def _n_bytes(kind: TensorType) -> int:
    return 0 if kind.dtype == INT else math.prod(sizes(kind, 1)) * BYTES[kind.dtype]


def _value_of(node: Node, known: Mapping[str, Any], n: int, where: str) -> Any:
    """What a node's name stands for: a number, a shape, or several of them."""
    signature = signatures()[node.op]
    pairs = [(argument.name, value) for argument, value in zip(signature, node.args, strict=False)]
    given = {
        name: arguments_for(v, known.__getitem__) for name, v in (*pairs, *node.kwargs.items())
    }
    if node.op in INTEGERS:
        return INTEGERS[node.op](given["a"], given["b"])
    if node.op == SIZE:
        shape, axis = given["self"].shape, given["dim"]
        if not -len(shape) <= axis < len(shape):
            raise Misfit(f"axis {axis} of {len(shape)}")
        return shape[axis]
    declared = _of_type(node.type, n, where)
    if node.op in OWN_OPERATORS:
        return declared
    shape = result_shape(node.op, given, n)
    results = (declared,) if isinstance(declared, Sized) else declared
    if shape is not None and any(result.shape != shape for result in results):
        raise Misfit(
            f"gives {list(shape)} for {n} image{'s' * (n != 1)}, but {node.type} is declared"
        )
    return declared


def _of_type(kind: ValueType, n: int, where: str) -> Any:
    if isinstance(kind, tuple):
        return tuple(_of_type(one, n, where) for one in kind)
    try:
        return Sized(sizes(kind, n))
    except ArtifactError as error:
        raise ArtifactError(f"{where}: {error}") from error
