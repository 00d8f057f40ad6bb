"""Products of matrices, softmax and attention that no kernel of irbin's takes, as calls."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from irbin.emit.copies import Arrays
from irbin.emit.definitions import ATTENTION, EINSUM, MATMUL, SOFTMAX
from irbin.emit.letters import as_matrices, letters_of
from irbin.emit.meetings import Meeting
from irbin.program.types import Node, Ref, TensorType
from irbin.runtime.arrays import Array


@dataclass(frozen=True, eq=False)
class Product:
    """Products of matrices."""

    names: tuple[str, str]
    """Of what is read."""
    arrays: tuple[Array, Array]
    """(..., rows, depth) and (..., depth, columns), as they are read."""
    to: Array
    """(..., rows, columns), in the result's memory."""
    into: str | None = None
    """What is written, where it is not the node's result."""


@dataclass(frozen=True, eq=False)
class Soft:
    """Softmax along an axis."""

    names: tuple[str]
    """Of what is read."""
    arrays: tuple[Array]
    """As it is read."""
    to: Array
    """What is written, of the same shape."""
    axis: int
    """Along which sums are 1."""
    into: str | None = None
    """What is written, where it is not the node's result."""


def product_of(node: Node, arrays: Arrays) -> Callable[[Array], Product | Soft] | None:
    """What a product of matrices or a softmax does; None if it is another node.

    Args:
        node: any.
        arrays: all that may be read.
    """
    if node.kwargs or not _gives_floats(node):
        return None
    match node.op, node.args:
        case op, (Ref(a), Ref(b)) if op in MATMUL and _are_floats(arrays, a, b, least=2):
            read = arrays[a], arrays[b]
            return lambda to: Product((a, b), read, to)
        case op, (Ref(x), int(axis)) if op == SOFTMAX and _are_floats(arrays, x, least=1):
            return lambda to: Soft((x,), (arrays[x],), to, axis % to.ndim)
        case op, (str(words), (Ref(a), Ref(b))) if op == EINSUM and _are_floats(
            arrays, a, b, least=1
        ):
            return _by_letters(words, (a, b), (arrays[a], arrays[b]))
    return None


def _by_letters(
    words: str, names: tuple[str, str], read: tuple[Array, Array]
) -> Callable[[Array], Product] | None:
    """An `einsum` of two as products of matrices."""
    letters = letters_of(words, [array.ndim for array in read])
    if letters is None:
        return None

    def made(to: Array) -> Product:
        a, b, whole = as_matrices(letters, *read, to)
        return Product(names, (a, b), whole)

    return made


@dataclass(frozen=True, eq=False)
class Attends:
    """Attention: what is read."""

    names: tuple[str, str, str]
    """Queries, keys and values."""
    arrays: tuple[Array, Array, Array]
    """(..., n, depth), (..., m, depth), (..., m, width), as they are read."""
    scale: float
    """Of products."""
    mask: tuple[str, Array] | None
    """Its name, and what is added."""

    @property
    def scores(self) -> tuple[int, ...]:
        """(..., n, m): the shape of the products."""
        return (*self.arrays[0].shape[:-1], self.arrays[1].shape[-2])

    def calls(self, lines: str, scores: Array, to: Array) -> tuple[Product | Soft | Meeting, ...]:
        """In order.

        Args:
            lines: name of memory for the products.
            scores: that memory.
            to: what is written.
        """
        (queries, keys, values), (first, second, third) = self.arrays, self.names
        factor = np.broadcast_to(np.float32(self.scale), scores.shape)
        steps: list[Product | Soft | Meeting] = [
            Product((first, second), (queries, np.swapaxes(keys, -1, -2)), scores, lines),
            Meeting("TIMES", (lines, None), (scores, factor), scores, into=lines),
        ]
        if self.mask is not None:
            name, mask = self.mask
            both = (scores, np.broadcast_to(mask, scores.shape))
            steps.append(Meeting("PLUS", (lines, name), both, scores, into=lines))
        steps.append(Soft((lines,), (scores,), scores, scores.ndim - 1, lines))
        steps.append(Product((lines, third), (scores, values), to))
        return tuple(steps)


def attends(node: Node, arrays: Arrays) -> Attends | None:
    """The attention that a node is; None if it is another node, causal or in groups.

    Args:
        node: any.
        arrays: all that may be read; a mask of truth values as floats, see `as_floats`.
    """
    names = node.refs()[:3]
    if node.op != ATTENTION or not _gives_floats(node) or not _are_floats(arrays, *names, least=3):
        return None
    keywords = ("attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")
    given: dict[str, Any] = {**dict(zip(keywords, node.args[3:], strict=False)), **node.kwargs}
    scale, mask = given.get("scale"), given.get("attn_mask")
    if len(names) < 3 or any(given.get(name) for name in ("dropout_p", "is_causal", "enable_gqa")):
        return None
    read = (arrays[names[0]], arrays[names[1]], arrays[names[2]])
    if scale is None:
        scale = 1 / math.sqrt(read[0].shape[-1])
    adds = None
    if isinstance(mask, Ref):
        name = as_floats(mask.name)
        name = name if name in arrays else mask.name
        if name not in arrays:
            return None
        adds = (name, arrays[name])
    return Attends((names[0], names[1], names[2]), read, float(np.float32(scale)), adds)


def as_floats(mask: str) -> str:
    """The name of a mask of truth values as what is added; no program has a name with spaces."""
    return f"{mask} as floats"


def _gives_floats(node: Node) -> bool:
    return isinstance(node.type, TensorType) and node.type.dtype == "float32"


def _are_floats(arrays: Arrays, *names: str, least: int) -> bool:
    """Whether all are float32 of so many axes at least, and not empty."""
    return all(
        name in arrays
        and arrays[name].dtype == np.float32
        and arrays[name].ndim >= least
        and arrays[name].size > 0
        for name in names
    )


def batches(arrays: Sequence[Array], shape: tuple[int, ...]) -> list[Array]:
    """The first number of every matrix, of a shape that all have."""
    return [np.broadcast_to(array[..., 0, 0], shape) for array in arrays]
