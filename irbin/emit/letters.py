"""`einsum` of two tensors as products of matrices: which axes are rows, depth and columns."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from irbin.runtime.arrays import Array


class Letters(NamedTuple):
    """What an equation says; each letter an axis."""

    first: str
    """Of the first tensor."""
    second: str
    """Of the second."""
    result: str
    """Of the result."""

    @property
    def depth(self) -> str:
        """The one along which products are added; '' for none."""
        return "".join(c for c in self.first if c not in self.result)

    @property
    def row(self) -> str:
        """The last of the first tensor and the result alone; '' for none."""
        return _last([c for c in self.result if c in self.first and c not in self.second])

    @property
    def column(self) -> str:
        """The last of the second tensor and the result alone; '' for none."""
        return _last([c for c in self.result if c in self.second and c not in self.first])

    @property
    def batch(self) -> str:
        """The others, in the result's order."""
        return "".join(c for c in self.result if c not in self.row + self.column)


def _last(letters: list[str]) -> str:
    return letters[-1] if letters else ""


def letters_of(equation: str, ranks: list[int]) -> Letters | None:
    """An equation of two tensors, which adds along one axis that both have, or along none.

    Args:
        equation: with a result; without dots.
        ranks: axes of the tensors.

    Returns:
        None if it is another.
    """
    match = re.fullmatch(r"([A-Za-z]+),([A-Za-z]+)->([A-Za-z]+)", equation.replace(" ", ""))
    if match is None:
        return None
    letters = Letters(*match.groups())
    each = (letters.first, letters.second, letters.result)
    if any(len(set(one)) < len(one) for one in each) or [*map(len, each[:2])] != ranks:
        return None
    added = (set(letters.first) | set(letters.second)) - set(letters.result)
    is_shared = added <= set(letters.first) & set(letters.second)
    is_known = set(letters.result) <= set(letters.first) | set(letters.second)
    return letters if is_shared and is_known and len(added) <= 1 else None


def as_matrices(letters: Letters, a: Array, b: Array, to: Array) -> tuple[Array, Array, Array]:
    """The tensors as (batch, rows, depth), (batch, depth, columns) and (batch, rows, columns).

    They are looked at where they lie.

    Args:
        letters: the equation.
        a: the first tensor.
        b: the second.
        to: the result.
    """
    batch, row, column, depth = letters.batch, letters.row, letters.column, letters.depth
    return (
        _seen(a, letters.first, batch, row, depth),
        _seen(b, letters.second, batch, depth, column),
        _seen(to, letters.result, batch, row, column),
    )


def _seen(array: Array, own: str, batch: str, one: str, other: str) -> Array:
    """An array with an axis for every letter, of size 1 for those that it lacks."""
    wanted = [*batch, one, other]
    order = [own.index(c) for c in wanted if c and c in own]
    missing = tuple(i for i, c in enumerate(wanted) if not c or c not in own)
    return np.expand_dims(array.transpose(order), missing)
