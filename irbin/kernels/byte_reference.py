"""The specification of convolutions of bytes, in plain NumPy: normalization folded into weights.

A network reads x̂ = (u / 255 − mean) / std of every byte u, and zeros outside the image. A weight w
times that is w / (255·std) times (u − 255·mean), so with integers q in place of w / (255·std·scale)
a tap inside the image adds q·u + k, k = −q·255·mean rounded to an integer, and a tap outside adds
nothing. These are sums of integers: the same in every order and on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from irbin.border import Border
from irbin.errors import UsageError
from irbin.kernels.float_reference import out_sizes
from irbin.kernels.reference import patches
from irbin.kernels.steps import Floats

LARGEST = 32766
"""That a weight may be before it is rounded, which moves it by less than 1: 16 bits and a sign."""
MOST = 2**31 - 1
"""That a sum may reach, whatever the image and whichever taps are inside."""
MOST_PRODUCTS = 1 << 20
"""In one sum, so that what rounding adds to it stays far below `MOST`."""

N_SCALES = 64
"""That are tried for an output channel, at most."""
N_TRIED = 1 << 17
"""Weights that are rounded at most to find the scales: fewer scales are tried of many weights."""
ALIKE = 0.95
"""Correlation of neighboring pixels, and of a pixel's channels."""
_NEW = 1 - ALIKE**2
"""Of a pixel's variance, what its neighbor does not tell."""


class Folded(NamedTuple):
    """Weights that read bytes."""

    weight: NDArray[np.int16]
    """(out_channels, kernel_height, kernel_width, in_channels)."""
    constants: NDArray[np.int32]
    """(out_channels, kernel_height, kernel_width), what a tap adds inside the image."""
    scale: Floats
    """(out_channels,), of the sum."""


def fold(weight: Floats, mean: Sequence[float], std: Sequence[float]) -> Folded:
    """Weights of normalized images as weights of bytes.

    What rounding takes from a weight is given to the next one of its input channel, row by row:
    neighboring pixels are much alike, so that their errors cancel. Each output channel has a scale:
    of some from the least with which no weight leaves 16 bits, and no sum 32, up to a quarter more,
    the one with which what is left of the errors is least on images (`expected_error`).

    Args:
        weight: float32 (out_channels, kernel_height, kernel_width, in_channels).
        mean: per input channel, in units of [0, 1] pixels.
        std: likewise.

    Raises:
        UsageError: numbers are not finite or too large, a deviation is not positive, or the
            channels are others.
    """
    n_in = weight.shape[3]
    middle, spread = (255 * np.array(values, np.float64) for values in (mean, std))
    if middle.shape != (n_in,) or spread.shape != (n_in,):
        raise UsageError(
            f"expected a mean and a deviation for each of {n_in} channels, got {middle.size} "
            f"and {spread.size}"
        )
    with np.errstate(all="ignore"):
        real = weight.astype(np.float64) / spread
        # a byte is this far from the mean at most
        reach = np.maximum(np.abs(middle), np.abs(255 - middle))
        sums = (np.abs(real) * reach).sum(axis=(1, 2, 3))
        # what rounding a weight and its constant adds to a sum
        slack = weight[0, ..., 0].size * (reach + 1).sum()
        least = np.maximum(np.abs(real).max(axis=(1, 2, 3)) / LARGEST, sums / (MOST - slack))
        least = np.maximum(least, np.finfo(np.float32).tiny)
        n = n_scales(weight.size)
        scales = _rounded_up(least * (1 + np.arange(n)[:, None] / (4 * n)))  # (n, out_channels)
    is_fit = weight[0].size <= MOST_PRODUCTS and bool(slack < MOST / 2) and bool((spread > 0).all())
    if not (is_fit and np.isfinite(scales).all()):
        raise UsageError("expected finite weights and a normalization that bytes can take")
    wanted = real / scales.astype(np.float64)[..., None, None, None]
    rounded = _rounded(wanted.reshape(-1, *real.shape[1:])).reshape(wanted.shape)
    error = expected_error(rounded - wanted) * scales.astype(np.float64) ** 2
    best = error.argmin(axis=0), np.arange(len(real))
    q, scale = rounded[best], scales[best]
    constants = np.rint(-(q * middle)).sum(axis=3)
    return Folded(q.astype(np.int16), constants.astype(np.int32), scale)


def n_scales(n_weights: int) -> int:
    """How many scales are tried for each output channel of a layer with so many weights."""
    return min(max(N_TRIED // max(n_weights, 1), 1), N_SCALES)


def largest_sum(folded: Folded, mean: Sequence[float]) -> int:
    """What no sum exceeds in size, whatever the image and whichever taps are inside."""
    q = folded.weight.astype(np.int64)
    k = np.rint(-(q * (255 * np.array(mean, np.float64)))).astype(np.int64)
    return int(np.maximum(np.abs(k), np.abs(255 * q + k)).sum(axis=(1, 2, 3)).max())


def conv2d(
    x: NDArray[np.uint8],
    weight: NDArray[np.int16],
    constants: NDArray[np.int32],
    stride: tuple[int, int] = (1, 1),
    border: Border = (0, 0, 0, 0),
    dilation: tuple[int, int] = (1, 1),
) -> Floats:
    """The sums, each rounded to float32.

    Args:
        x: (batch, height, width, in_channels).
        weight: (out_channels, kernel_height, kernel_width, in_channels).
        constants: (out_channels, kernel_height, kernel_width).
        stride: (vertical, horizontal).
        border: padding (left, right, top, bottom), which adds nothing.
        dilation: (vertical, horizontal).

    Returns:
        (batch, out_height, out_width, out_channels).
    """
    kernel = (weight.shape[1], weight.shape[2])
    left, right, top, bottom = border
    around = ((0, 0), (top, bottom), (left, right), (0, 0))
    padded = np.pad(x, around)
    is_inside = np.pad(np.ones((1, *x.shape[1:3], 1), np.int64), around)
    shape = (*out_sizes(padded.shape[1:3], kernel, stride, dilation), *kernel)
    windows = patches(padded, shape, stride, dilation).astype(np.int64)
    inside = patches(is_inside, shape, stride, dilation)[..., 0]
    total = np.tensordot(windows, weight.astype(np.int64), ((3, 4, 5), (1, 2, 3)))
    total = total + np.tensordot(inside, constants.astype(np.int64), ((3, 4), (1, 2)))
    return total.astype(np.float32)


def expected_error(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean square of what errors of weights add to a sum, up to a factor, on images.

    Pixels are taken for what they mostly are, much alike: their correlation is `ALIKE` to the
    distance in rows plus that in columns, and `ALIKE` between channels. Added in a fixed order,
    since the scales that follow are to be the same on every machine.

    Args:
        errors: (…, kernel_height, kernel_width, in_channels).
    """
    # with C = L·Lᵀ of correlations that fall off so, eᵀ·C·e = |Lᵀe|², and Lᵀ is a recursion
    height, width, n_in = errors.shape[-3:]
    rows = np.zeros((*errors.shape[:-3], width, n_in))
    total = np.zeros(errors.shape[:-3])
    for row in reversed(range(height)):
        rows = errors[..., row, :, :] + ALIKE * rows
        sums = np.zeros((*errors.shape[:-3], n_in))
        for column in reversed(range(width)):
            sums = rows[..., column, :] + ALIKE * sums
            new = (1 if row == 0 else _NEW) * (1 if column == 0 else _NEW)
            together = np.zeros_like(total)
            for channel in range(n_in):
                together += sums[..., channel]
                total += new * (1 - ALIKE) * sums[..., channel] ** 2
            total += new * ALIKE * together**2
    return total


def _rounded(real: NDArray[np.float64]) -> NDArray[np.float64]:
    """To integers, the error of each handed on to the next tap of its channels."""
    q = np.empty_like(real)
    error = np.zeros((len(real), real.shape[3]))
    for row in range(real.shape[1]):
        for column in range(real.shape[2]):
            wanted = real[:, row, column] + error
            q[:, row, column] = np.rint(wanted)
            error = wanted - q[:, row, column]
    return q


def _rounded_up(values: NDArray[np.float64]) -> Floats:
    rounded = values.astype(np.float32)
    return np.where(rounded < values, np.nextafter(rounded, np.float32(np.inf)), rounded)
