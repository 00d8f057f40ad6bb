"""1/σ against NumPy's variance, and what an image of odd numbers gets."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from irbin.binary.spread import EPSILON, SMALLEST, inverse_spread

ALL = (-3, -2, -1)
IMAGES = arrays(
    np.float64,
    st.tuples(st.integers(0, 3), *[st.integers(1, 4)] * 3),
    elements=st.floats(-100, 100),
)


@given(IMAGES)
def test_it_is_one_over_the_standard_deviation_of_each_image(images: np.ndarray) -> None:
    found = inverse_spread(torch.from_numpy(images), ALL)
    expected = 1 / np.sqrt(images.var(axis=(1, 2, 3), keepdims=True) + EPSILON)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


@given(IMAGES, st.floats(-10, 10))
def test_what_is_added_to_an_image_does_not_count(images: np.ndarray, shift: float) -> None:
    left, right = (inverse_spread(torch.from_numpy(x), ALL) for x in (images, images + shift))
    torch.testing.assert_close(left, right, rtol=1e-6, atol=0)


@pytest.mark.parametrize("value", [0.0, -0.0, 3.0, -1e-30])
def test_images_without_a_spread_have_epsilons(value: float) -> None:
    for shape in ((2, 3, 4, 4), (2, 1, 1, 1)):
        found = inverse_spread(torch.full(shape, value).double(), ALL)
        assert found.flatten().tolist() == pytest.approx([EPSILON**-0.5] * 2)


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str
)
def test_infinity_leaves_no_slope_and_nan_stays(dtype: torch.dtype) -> None:
    x = torch.randn(5, 2, 3, 3).to(dtype)
    x[0, 0, 0, 0] = math.inf
    x[1, 0, 0, 0] = -math.inf
    x[2, 0, 0, :2] = torch.tensor([math.inf, -math.inf])
    x[3, 0, 0, 0] = math.nan
    found = inverse_spread(x, ALL)
    assert found.dtype == dtype
    smallest = torch.tensor(max(SMALLEST, torch.finfo(dtype).tiny), dtype=dtype)
    assert bool((found[:3] == smallest).all())
    assert bool(found[3].isnan())
    assert bool(found[4] > 0.1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_rounded_once(dtype: torch.dtype) -> None:
    x = (300 + 5 * torch.randn(3, 4, 16, 16)).to(dtype)  # whose square no float16 holds
    exact = inverse_spread(x.double(), ALL)
    torch.testing.assert_close(inverse_spread(x, ALL).double(), exact, rtol=0.01, atol=0)


def test_no_gradient_goes_through_it() -> None:
    assert not inverse_spread(torch.randn(2, 3, 4, 4, requires_grad=True), ALL).requires_grad
