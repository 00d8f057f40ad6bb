"""The specification of the float kernels, in plain NumPy: convolutions, poolings and norms.

A float convolution adds its products in the order (row, column, channel) of the taps, starting from
zero, each step one fused multiply-add: rounded once. Where weights are signs it adds four channels
at once (`sign_reference.py`). With the order fixed, every implementation gives the same bits for
any batch size and number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from irbin.axes import Between
from irbin.border import Border
from irbin.kernels import activations
from irbin.kernels.reference import patches
from irbin.kernels.steps import Floats


def multiply_add(a: Floats, b: Floats, c: Floats) -> Floats:
    """a·b + c rounded once to float32, as IEEE 754 defines fused multiply-add.

    In double precision the product is exact. The sum is rounded there to odd: where it is inexact,
    to the neighbor whose last bit is 1, so that rounding once more to float32 cannot be misled by a
    tie that the first rounding made (Boldo and Melquiond, IEEE Trans. Computers 57(4), 2008).
    """
    with np.errstate(all="ignore"):
        product, addend = a.astype(np.float64) * b, c.astype(np.float64)
        total = product + addend
        # what the sum lost (Knuth, TAOCP 2, §4.2.2)
        back = total - product
        lost = (product - (total - back)) + (addend - back)
        bits = np.atleast_1d(total).view(np.int64)
        moved = np.where((lost > 0) == (total > 0), bits + 1, bits - 1)
        odd = np.isfinite(bits.view(np.float64)) & (lost != 0) & (bits % 2 == 0)
        result: Floats = np.where(odd, moved, bits).view(np.float64).astype(np.float32)
    return result.reshape(np.shape(total))


def conv2d(
    x: Floats,
    weight: Floats,
    stride: tuple[int, int] = (1, 1),
    border: Border = (0, 0, 0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> Floats:
    """Convolution of floats, zeros outside the image.

    Args:
        x: (batch, height, width, in_channels).
        weight: (out_channels, kernel_height, kernel_width, in_channels / groups).
        stride: (vertical, horizontal).
        border: zero padding (left, right, top, bottom).
        dilation: (vertical, horizontal).
        groups: output channels of group g see input channels of group g only.

    Returns:
        (batch, out_height, out_width, out_channels).
    """
    if groups > 1:
        parts = zip(np.split(x, groups, axis=3), np.split(weight, groups), strict=True)
        made = [conv2d(part, of_part, stride, border, dilation) for part, of_part in parts]
        return np.concatenate(made, axis=3)
    n_out, *kernel, n_in = weight.shape
    left, right, top, bottom = border
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    shape = (*out_sizes(padded.shape[1:3], (kernel[0], kernel[1]), stride, dilation), *kernel)
    windows = patches(padded, shape, stride, dilation)
    y = np.zeros((len(x), *shape[:2], n_out), np.float32)
    for row in range(kernel[0]):
        for column in range(kernel[1]):
            for channel in range(n_in):
                factor = windows[:, :, :, row, column, channel, None]
                y = multiply_add(factor, weight[:, row, column, channel], y)
    return y


def max_pool2d(
    x: Floats,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    border: Border,
    dilation: tuple[int, int],
) -> Floats:
    """The largest value of each window, NaN if one is in it; what lies outside never wins.

    Args:
        x: (batch, height, width, channels).
        kernel: (height, width).
        stride: (vertical, horizontal).
        border: padding (left, right, top, bottom).
        dilation: (vertical, horizontal).

    Returns:
        (batch, out_height, out_width, channels).
    """
    left, right, top, bottom = border
    around = ((0, 0), (top, bottom), (left, right), (0, 0))
    padded = np.pad(x, around, constant_values=np.float32(-np.inf))
    sizes = out_sizes(padded.shape[1:3], kernel, stride, dilation)
    shape = (*sizes, *kernel)
    windows = patches(padded, shape, stride, dilation)
    return windows.max(axis=(3, 4)) if len(x) else np.empty((0, *sizes, x.shape[3]), np.float32)


def depthwise_conv2d(
    x: Floats,
    weight: Floats,
    stride: tuple[int, int] = (1, 1),
    border: Border = (0, 0, 0, 0),
    dilation: tuple[int, int] = (1, 1),
) -> Floats:
    """Convolution of every channel by itself, zeros outside the image.

    Args:
        x: (batch, height, width, channels).
        weight: (kernel_height, kernel_width, channels).
        stride: (vertical, horizontal).
        border: zero padding (left, right, top, bottom).
        dilation: (vertical, horizontal).

    Returns:
        (batch, out_height, out_width, channels).
    """
    kernel = weight.shape[:2]
    left, right, top, bottom = border
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    shape = (*out_sizes(padded.shape[1:3], (kernel[0], kernel[1]), stride, dilation), *kernel)
    windows = patches(padded, shape, stride, dilation)
    y = np.zeros((len(x), *shape[:2], x.shape[3]), np.float32)
    for row in range(kernel[0]):
        for column in range(kernel[1]):
            y = multiply_add(windows[:, :, :, row, column], weight[row, column], y)
    return y


def averages(
    x: Floats, rows: Sequence[tuple[int, int, int]], columns: Sequence[tuple[int, int, int]]
) -> Floats:
    """Means of rectangles: sums in the order (row, column) from +0, then one division.

    Args:
        x: (batch, height, width, channels).
        rows: (begin, end, count) of each output row.
        columns: the same of each output column; the sum is divided by both counts' product.

    Returns:
        (batch, rows, columns, channels).
    """
    y = np.zeros((len(x), len(rows), len(columns), x.shape[3]), np.float32)
    with np.errstate(all="ignore"):
        for i, (top, bottom, n_rows) in enumerate(rows):
            for j, (left, right, n_columns) in enumerate(columns):
                for row, column in product(range(top, bottom), range(left, right)):
                    y[:, i, j] += x[:, row, column]
                y[:, i, j] /= np.float32(n_rows * n_columns)
    return y


def channel_means(x: Floats, count: int) -> Floats:
    """Means of every `count` neighboring channels: sums in order from +0, then one division.

    Args:
        x: (batch, height, width, channels).
        count: a divisor of the channels.

    Returns:
        (batch, height, width, channels / count).
    """
    parts = x.reshape(*x.shape[:3], x.shape[3] // count, count)
    y = np.zeros(parts.shape[:4], np.float32)
    with np.errstate(all="ignore"):
        for k in range(count):
            y += parts[..., k]
        y /= np.float32(count)
    return y


LANES = 16
"""Partial sums of a row."""


def sums_of_rows(x: Floats) -> Floats:
    """Sums along the last axis: number i goes to partial sum i mod 16, from +0 in order.

    The partial sums are then added in halves: 0 to 7 and 8 to 15, what comes of it 0 to 3 and 4 to
    7, and so on.

    Args:
        x: (..., n).

    Returns:
        (..., 1).
    """
    n = x.shape[-1]
    n_filled = -(-n // LANES) * LANES
    filled = np.zeros((*x.shape[:-1], n_filled), np.float32)
    filled[..., :n] = x
    filled = filled.reshape(*x.shape[:-1], n_filled // LANES, LANES)
    total = np.zeros((*x.shape[:-1], LANES), np.float32)
    for i in range(filled.shape[-2]):
        total = total + filled[..., i, :]
    while total.shape[-1] > 1:
        half = total.shape[-1] // 2
        total = total[..., :half] + total[..., half:]
    return total


def layer_norm(x: Floats, epsilon: float, *, is_centered: bool = True) -> Floats:
    """(x − mean) · (1 / √(variance + ε)), each operation rounded; sums as `sums_of_rows`.

    The variance is the mean of the squares of what is left after the mean was taken away.

    Args:
        x: (..., channels).
        epsilon: taken as float32.
        is_centered: else the mean is taken to be 0 (an RMS norm).
    """
    n = np.float32(x.shape[-1])
    with np.errstate(all="ignore"):
        apart = x - sums_of_rows(x) / n if is_centered else x
        variance = sums_of_rows(apart * apart) / n
        made: Floats = apart * (np.float32(1) / np.sqrt(variance + np.float32(epsilon)))
    return made


def resized(x: Floats, rows: Sequence[Between], columns: Sequence[Between]) -> Floats:
    """Numbers between four: two of a row, then the two rows, each product and sum rounded.

    Args:
        x: (batch, height, width, channels).
        rows: of each output row.
        columns: of each output column.
    """

    def between(of: Floats, places: Sequence[Between], axis: int) -> Floats:
        first = of.take([place.first for place in places], axis)
        second = of.take([place.second for place in places], axis)
        shape = [1, 1, 1, 1]
        shape[axis] = -1
        v, w = (np.array([place[i] for place in places], np.float32).reshape(shape) for i in (2, 3))
        made: Floats = v * first + w * second
        return made

    with np.errstate(all="ignore"):
        return between(between(x, columns, 2), rows, 1)


def group_norm(x: Floats, n_groups: int, epsilon: float) -> Floats:
    """As `layer_norm`, over all pixels and the channels of a group.

    Each channel's columns are added within their row, then the rows, then the channels of the
    group; everything from +0, in order.

    Args:
        x: (batch, height, width, channels).
        n_groups: divides the channels.
        epsilon: taken as float32.
    """
    n, height, width, n_channels = x.shape
    count = np.float32(height * width * (n_channels // n_groups))

    def means(of: Floats) -> Floats:
        rows = _added_in_order(of, axis=2)
        groups = _added_in_order(rows, axis=1).reshape(n, n_groups, n_channels // n_groups)
        mean = _added_in_order(groups, axis=2) / count
        return np.repeat(mean, n_channels // n_groups, axis=1)[:, None, None, :]

    with np.errstate(all="ignore"):
        apart = x - means(x)
        factor = np.float32(1) / np.sqrt(means(apart * apart) + np.float32(epsilon))
        made: Floats = apart * factor
    return made


def _added_in_order(x: Floats, axis: int) -> Floats:
    total = np.zeros_like(x.take(0, axis))
    for i in range(x.shape[axis]):
        total = total + x.take(i, axis)
    return total


def attention(
    queries: Floats, keys: Floats, values: Floats, scale: np.float32, mask: Floats | None = None
) -> Floats:
    """Means of values, weighed by e to the power of the scaled products of queries with keys.

    1. A product of a query and a key: fused multiply-adds from +0 over their numbers, in order.
    2. It is multiplied by the scale, and the mask is added; each rounded.
    3. The largest of the query's is taken away, and e raised to what is left (`activations.exp`).
    4. Fused multiply-adds of these with the values from +0, over the keys in order; the result plus
       +0 is divided by their own sum, which is added as by `sums_of_rows`.

    Args:
        queries: (batch, heads, n, depth).
        keys: (batch, heads, m, depth).
        values: (batch, heads, m, width).
        scale: of the products.
        mask: broadcast to (heads, n, m).

    Returns:
        (batch, heads, n, width).
    """
    shape = (*queries.shape[:3], keys.shape[2])
    weights = np.zeros(shape, np.float32)
    for d in range(queries.shape[3]):
        weights = multiply_add(queries[..., d, None], keys[..., None, :, d], weights)
    with np.errstate(all="ignore"):
        weights = weights * scale
        if mask is not None:
            weights = weights + mask
        weights = activations.exp(weights - weights.max(axis=3, keepdims=True))
        total = sums_of_rows(weights)
    made = np.zeros((*shape[:3], values.shape[3]), np.float32)
    for j in range(shape[3]):
        made = multiply_add(weights[..., j, None], values[:, :, None, j], made)
    with np.errstate(all="ignore"):
        mean: Floats = (np.float32(0) + made) / total
    return mean


def out_sizes(
    padded: Sequence[int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
) -> tuple[int, int]:
    """(height, width) of what a window gives on an image with its border."""
    sizes = []
    for axis in range(2):
        reach = (kernel[axis] - 1) * dilation[axis] + 1
        sizes.append((padded[axis] - reach) // stride[axis] + 1)
    return sizes[0], sizes[1]
