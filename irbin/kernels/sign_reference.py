"""The specification of convolutions of floats with signs, in plain NumPy."""

from __future__ import annotations

from itertools import product

import numpy as np

from irbin.border import Border
from irbin.kernels.float_reference import out_sizes
from irbin.kernels.reference import patches
from irbin.kernels.steps import Floats


def sign_conv2d(
    x: Floats,
    weight: Floats,
    stride: tuple[int, int] = (1, 1),
    border: Border = (0, 0, 0, 0),
    dilation: tuple[int, int] = (1, 1),
) -> Floats:
    """Convolution of floats whose weights are signs, zeros outside the image.

    In the order (row, column, four channels) of the taps, from +0, it adds
    (±x₀ ± x₁) + (±x₂ ± x₃), each sum rounded to float32; channels behind the last are +0. So all
    that four numbers of a pixel can give are 16 sums, which are made once for all output channels.

    Args:
        x: (batch, height, width, in_channels).
        weight: ±1, (out_channels, kernel_height, kernel_width, in_channels).
        stride: (vertical, horizontal).
        border: zero padding (left, right, top, bottom).
        dilation: (vertical, horizontal).

    Returns:
        (batch, out_height, out_width, out_channels).
    """
    left, right, top, bottom = border
    missing = -x.shape[3] % 4
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, missing)))
    signs = np.pad(weight, ((0, 0), (0, 0), (0, 0), (0, missing)), constant_values=1)
    n_out, *kernel, n_in = signs.shape
    shape = (*out_sizes(padded.shape[1:3], (kernel[0], kernel[1]), stride, dilation), *kernel)
    windows = patches(padded, shape, stride, dilation)
    y = np.zeros((len(x), *shape[:2], n_out), np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        for row, column, first in product(*map(range, kernel), range(0, n_in, 4)):
            taps = signs[:, row, column, first : first + 4]
            four = windows[:, :, :, row, column, None, first : first + 4] * taps
            y += (four[..., 0] + four[..., 1]) + (four[..., 2] + four[..., 3])
    return y
