"""The specification of products, sums and softmax of tensors of any rank, in plain NumPy.

A packed network's kernels compute attention whose rows lie in order (`float_reference.attention`);
other products of computed tensors are torch's when Python runs it, in an order of its own. What has
no torch, as C, computes them as is written here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from irbin.kernels import activations
from irbin.kernels.float_reference import multiply_add, sums_of_rows
from irbin.kernels.steps import Floats

Folding = Literal["sum", "mean", "norm", "variance", "deviation", "largest", "smallest"]
"""What becomes of several numbers."""


def matmul(a: Floats, b: Floats) -> Floats:
    """Products of matrices: fused multiply-adds from +0 over the depth, in order.

    Args:
        a: (..., rows, depth).
        b: (..., depth, columns); the axes in front broadcast.

    Returns:
        (..., rows, columns).
    """
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    made = np.zeros((*batch, a.shape[-2], b.shape[-1]), np.float32)
    for i in range(a.shape[-1]):
        made = multiply_add(a[..., i, None], b[..., None, i, :], made)
    return made


def folded(x: Floats, axes: Sequence[int], folding: Folding, divisor: float = 1.0) -> Floats:
    """One number of all along some axes, taken in the order in which these axes stand.

    Sums begin with the first number and every operation is rounded. A norm is the root of the sum
    of squares; a variance a sum of squares of what numbers have beside their mean, divided; a
    deviation its root. `largest` and `smallest` give NaN where one is.

    Args:
        x: any shape.
        axes: in order; not empty.
        folding: which.
        divisor: of a mean's sum, or of a variance's.

    Returns:
        `x`'s shape with 1 along the axes.
    """
    last = range(x.ndim - len(axes), x.ndim)
    moved = np.moveaxis(x, axes, last)
    terms = moved.reshape(*moved.shape[: x.ndim - len(axes)], -1)
    with np.errstate(all="ignore"):
        if folding in ("variance", "deviation"):
            terms = terms - _added_up(terms)[..., None] / np.float32(terms.shape[-1])
        if folding in ("norm", "variance", "deviation"):
            terms = terms * terms
        made = _taken_together(terms, folding)
        if folding in ("mean", "variance", "deviation"):
            made = made / np.float32(divisor)
        if folding in ("norm", "deviation"):
            made = np.sqrt(made)
    return np.expand_dims(made, tuple(axes)).astype(np.float32, copy=False)


def _taken_together(x: Floats, folding: Folding) -> Floats:
    if folding not in ("largest", "smallest"):
        return _added_up(x)
    made: Floats = x[..., 0]
    for k in range(1, x.shape[-1]):
        b = x[..., k]
        is_beyond = made > b if folding == "largest" else made < b
        made = np.where((made != made) | (is_beyond & (b == b)), made, b)
    return made


def _added_up(x: Floats) -> Floats:
    total: Floats = x[..., 0]
    for k in range(1, x.shape[-1]):
        total = total + x[..., k]
    return total


def softmax(x: Floats, axis: int) -> Floats:
    """e to the power of what is left once the largest is taken away, by the sum of these.

    The sum is one of `sums_of_rows`; every operation is rounded.

    Args:
        x: any shape.
        axis: along which the results' sum is 1.
    """
    rows = np.moveaxis(x, axis, -1)
    with np.errstate(all="ignore"):
        powers = activations.exp(rows - rows.max(axis=-1, keepdims=True))
        made: Floats = powers / sums_of_rows(powers)
    return np.moveaxis(made, -1, axis)


def attention(
    queries: Floats,
    keys: Floats,
    values: Floats,
    mask: Floats | NDArray[np.bool_] | None = None,
    scale: float | None = None,
) -> Floats:
    """Products of queries and keys, scaled, the mask added, softmax, a product with the values.

    Args:
        queries: (..., n, depth).
        keys: (..., m, depth).
        values: (..., m, width).
        mask: broadcasts to (..., n, m); where a mask of truth values is False, −inf is added.
        scale: of the products; one by the square root of the depth where it is None.
    """
    factor = 1 / math.sqrt(queries.shape[-1]) if scale is None else scale
    with np.errstate(all="ignore"):
        scores = matmul(queries, np.swapaxes(keys, -1, -2)) * np.float32(factor)
        if mask is not None:
            scores = scores + added(mask)
    return matmul(softmax(scores, -1), values)


def added(mask: Floats | NDArray[np.bool_]) -> Floats:
    """A mask as what is added: of truth values 0 or −inf."""
    if mask.dtype == np.bool_:
        return np.where(mask, np.float32(0), np.float32(-np.inf))
    floats: Floats = mask.astype(np.float32, copy=False)
    return floats
