"""Attention: every query's mean of values, weighed by its products with the keys, made ready.

`float_reference.attention` defines it. Queries, keys and values are looked at where they lie, as
parts of what one linear layer gives, say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from irbin.bounds import MAX_INTEGER
from irbin.errors import UsageError
from irbin.kernels import float_reference, native, reference
from irbin.kernels.kernel import Kernel, check_array, check_integers, check_steps, step_tuples
from irbin.kernels.steps import Floats, Step


class Heads(NamedTuple):
    """Sizes of an attention."""

    n_heads: int
    """Side by side."""
    n_queries: int
    """Rows of each head's queries."""
    n_keys: int
    """Rows of each head's keys and values."""
    depth: int
    """Numbers of a query and of a key."""
    width: int
    """Numbers of a value."""


class Look(NamedTuple):
    """Where the rows of each head lie in what is read of an image; in numbers.

    Row r of head h begins at `offset + h * head + r * row`; its numbers follow one another.
    """

    size: int
    """Of what is read of an image."""
    offset: int
    """Of the first row."""
    head: int
    """From a head to the next."""
    row: int
    """From a row to the next."""


class AttentionKernel(Kernel):
    """float32 queries (batch, size) to (batch, queries, heads · width).

    Keys and values come behind the residuals, likewise.

    Args:
        heads: sizes.
        looks: at queries, keys and values.
        scale: of the products.
        mask: is added to the scaled products: (1 or heads, queries, keys), or None.
        steps: on the result.

    Raises:
        UsageError: sizes do not fit each other.
    """

    def __init__(
        self,
        heads: Heads,
        looks: tuple[Look, Look, Look],
        scale: float,
        mask: Floats | None = None,
        steps: Sequence[Step] = (),
    ) -> None:
        super().__init__(steps)
        self.heads = Heads(*check_integers("heads", heads, 5, 1, MAX_INTEGER))
        self.looks, self.scale, self.mask = looks, float(np.float32(scale)), mask
        for look, (n_rows, n_numbers) in zip(looks, self._read(), strict=True):
            size, offset, head, row = check_integers("look", look, 4, 0, MAX_INTEGER)
            end = offset + (heads.n_heads - 1) * head + (n_rows - 1) * row + n_numbers
            if end > size:
                raise UsageError(f"`looks`: expected rows within {size} numbers, got up to {end}")
        if mask is not None:
            check_array("mask", mask, np.float32, (None, heads.n_queries, heads.n_keys))
            if len(mask) not in (1, heads.n_heads):
                raise UsageError(f"`mask`: expected 1 or {heads.n_heads} heads, got {len(mask)}")
        check_steps(steps, heads.n_heads * heads.width)

    def _read(self) -> tuple[tuple[int, int], ...]:
        """(rows, numbers of a row) of queries, keys and values."""
        _, n_queries, n_keys, depth, width = self.heads
        return (n_queries, depth), (n_keys, depth), (n_keys, width)

    def _make(self) -> Any:
        looks = map(tuple, self.looks)
        steps = step_tuples(self.steps)
        return native.module().attention(tuple(self.heads), *looks, self.scale, self.mask, steps)

    def _check_input(self, x: NDArray[Any]) -> int:
        check_array("x", x, np.float32, (None, self.looks[0].size))
        return len(x)

    def _out_shape(self, n: int) -> tuple[int, ...]:
        return (n, self.heads.n_queries, self.heads.n_heads * self.heads.width)

    def _further_shapes(self, n: int) -> tuple[tuple[int, ...], ...]:
        return tuple((n, look.size) for look in self.looks[1:])

    def _value(self, x: NDArray[Any], residuals: Sequence[Floats]) -> Floats:
        read = (x, *residuals[self.n_residuals :])
        queries, keys, values = (
            np.lib.stride_tricks.as_strided(
                array[:, look.offset :],
                (len(array), self.heads.n_heads, n_rows, n_numbers),
                (4 * look.size, 4 * look.head, 4 * look.row, 4),
                writeable=False,
            )
            for array, look, (n_rows, n_numbers) in zip(read, self.looks, self._read(), strict=True)
        )
        scale = np.float32(self.scale)
        made = float_reference.attention(queries, keys, values, scale, self.mask)
        shape = self._out_shape(len(x))
        added = [
            array.reshape(wanted)
            for array, wanted in zip(residuals, self._residual_shapes(shape), strict=False)
        ]
        return reference.apply_steps(
            made.transpose(0, 2, 1, 3).reshape(shape), self._value_steps, added
        )
