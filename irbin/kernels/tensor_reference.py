"""The specification of products and softmax of tensors of any rank, in plain NumPy.

A packed network's kernels compute attention whose rows lie in order (`float_reference.attention`);
other products of computed tensors are torch's when Python runs it, in an order of its own. What has
no torch, as C, computes them as is written here.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from irbin.kernels import activations
from irbin.kernels.float_reference import multiply_add, sums_of_rows
from irbin.kernels.steps import Floats


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
