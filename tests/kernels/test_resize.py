"""Bilinear interpolation is the definition's in every implementation."""

from __future__ import annotations

import numpy as np
import pytest

from irbin.axes import Between
from irbin.errors import UsageError
from irbin.kernels.resize import ResizeKernel
from irbin.kernels.steps import Step

pytestmark = pytest.mark.usefixtures("implementation")


def spread(before: int, after: int) -> list[Between]:
    at = np.linspace(0, before - 1, after)
    first = np.minimum(at.astype(int), before - 1)
    weights = at - first
    last = before - 1
    return [
        Between(int(i), min(int(i) + 1, last), 1 - w, w)
        for i, w in zip(first, weights, strict=True)
    ]


@pytest.mark.parametrize("n_channels", [1, 7, 8, 16, 17, 33, 65])
@pytest.mark.parametrize(
    ("size", "out"), [((1, 1), (3, 2)), ((4, 5), (9, 7)), ((6, 3), (2, 3)), ((2, 40), (3, 90))]
)
def test_numbers_between(n_channels, size, out):
    random = np.random.default_rng(n_channels)
    x = random.standard_normal((2, *size, n_channels)).astype(np.float32)
    x[0, 0, 0, 0] = np.inf
    steps = [Step("multiply", random.standard_normal(n_channels).astype(np.float32)), Step("silu")]
    for behind in ((), steps):
        places = (spread(size[0], out[0]), spread(size[1], out[1]))
        kernel = ResizeKernel(size, n_channels, *places, behind)
        y, wanted = (np.empty((2, *out, n_channels), np.float32) for _ in range(2))
        bits, wanted_bits = (np.empty((2, *out, -(-n_channels // 8)), np.uint8) for _ in range(2))
        kernel.define(x, (), wanted, wanted_bits)
        kernel(x, (), y, bits, 2)
        assert np.array_equal(y, wanted, equal_nan=True)
        assert np.array_equal(bits, wanted_bits)


def test_places_outside_are_refused():
    inside = [Between(0, 1, 0.5, 0.5)]
    with pytest.raises(UsageError, match="`place`: expected an integer from 0 to 1, got 2"):
        ResizeKernel((2, 2), 3, [Between(1, 2, 0.5, 0.5)], inside)
