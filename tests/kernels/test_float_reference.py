"""The float specification against exact arithmetic, and every implementation against it."""

from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from irbin.kernels import float_reference, native
from irbin.kernels.convolution import FloatConvKernel
from irbin.kernels.geometry import Geometry
from irbin.kernels.steps import Step

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def nearest(exact: Fraction) -> np.float32:
    """A fraction rounded once to float32, ties to even, by comparing it with its neighbors."""
    start = np.float32(float(exact))  # a neighbor of the answer, or the answer
    around = [np.nextafter(start, np.float32(to)) for to in (-np.inf, start, np.inf)]
    return min(around, key=lambda v: (abs(Fraction(float(v)) - exact), int(v.view(np.int32)) & 1))


class TestMultiplyAdd:
    @pytest.mark.slow
    @given(a=FINITE, b=FINITE, c=FINITE)
    @settings(deadline=None, derandomize=True, max_examples=500)
    def test_rounds_the_exact_value_once(self, a, b, c):
        exact = Fraction(a) * Fraction(b) + Fraction(c)
        if abs(exact) >= Fraction(2) ** 127:
            return  # infinities are the next test's
        found = float_reference.multiply_add(*(np.array([v], np.float32) for v in (a, b, c)))
        assert found[0] == nearest(exact)

    def test_a_tie_that_double_precision_makes_is_not_taken(self):
        # exactly 1 + 2⁻²³ + 2⁻²⁴ − 2⁻⁵⁴, a little below the middle of two floats
        a, b = np.float32([1 - 2**-15]), np.float32([2**-24 * (1 + 2**-15)])
        c = np.float32([1 + 2**-23])
        twice = (a.astype(np.float64) * b + c).astype(np.float32)
        assert twice[0] == np.float32(1 + 2**-22)
        assert float_reference.multiply_add(a, b, c)[0] == np.float32(1 + 2**-23)

    def test_overflow_infinities_and_nan_are_ieee_754s(self):
        inf, nan, big = np.inf, np.nan, 3e38
        a = np.float32([big, inf, inf, nan, -big, 1])
        b = np.float32([big, 1, 0, 1, big, 1])
        c = np.float32([-big, -inf, 1, 1, big, inf])
        found = float_reference.multiply_add(a, b, c)
        assert np.array_equal(found, np.float32([inf, nan, nan, nan, -inf, inf]), equal_nan=True)


class TestConv2d:
    @given(
        batch=st.integers(0, 2),
        size=st.tuples(st.integers(3, 8), st.integers(3, 8)),
        kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
        stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
        border=st.tuples(*[st.integers(0, 3)] * 4),
        channels=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    )
    @settings(deadline=None, derandomize=True, max_examples=60)
    def test_is_torchs_convolution_within_rounding(
        self, batch, size, kernel, stride, border, channels
    ):
        x, w = numbers(batch, *size, channels[0]), numbers(channels[1], *kernel, channels[0])
        found = float_reference.conv2d(x, w, stride, border)
        planes = torch.from_numpy(x).permute(0, 3, 1, 2).double()
        weight = torch.from_numpy(w).permute(0, 3, 1, 2).double()
        y = F.conv2d(F.pad(planes, border), weight, None, stride).permute(0, 2, 3, 1).numpy()
        assert found.shape == y.shape
        assert np.allclose(found, y, rtol=0, atol=1e-4)


class TestMaxPool2d:
    @given(
        batch=st.integers(0, 2),
        size=st.tuples(st.integers(3, 8), st.integers(3, 8)),
        kernel=st.integers(2, 3),
        stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
        padding=st.integers(0, 1),
    )
    @settings(deadline=None, derandomize=True, max_examples=60)
    def test_is_torchs_pooling(self, batch, size, kernel, stride, padding):
        x = numbers(batch, *size, 3)
        if batch:
            x[0, 1, 1, 0], x[0, 2, 2, 1] = np.nan, -np.inf
        y = float_reference.max_pool2d(x, (kernel, kernel), stride, (padding,) * 4, (1, 1))
        planes = torch.from_numpy(x).permute(0, 3, 1, 2)
        expected = F.max_pool2d(planes, kernel, stride, padding).permute(0, 2, 3, 1).numpy()
        assert np.array_equal(y, expected, equal_nan=True)


def run(kernel: FloatConvKernel, x: np.ndarray, n_threads: int = 1) -> np.ndarray:
    y = np.full(kernel._out_shape(len(x)), 123, np.float32)
    kernel(x, (), y, None, n_threads)
    return y


@pytest.mark.usefixtures("implementation")
class TestFloatConvKernel:
    @pytest.mark.slow
    @given(
        batch=st.integers(0, 3),
        size=st.tuples(st.integers(1, 7), st.one_of(st.integers(1, 7), st.integers(60, 70))),
        kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
        stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
        dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
        border=st.one_of(st.just((0, 0, 0, 0)), st.tuples(*[st.integers(0, 3)] * 4)),
        n_in=st.integers(1, 9),
        n_out=st.one_of(st.sampled_from((8, 15, 16, 17, 32, 33)), st.integers(1, 50)),
        n_threads=st.sampled_from((1, 2)),
    )
    @settings(deadline=None, derandomize=True, max_examples=60)
    def test_equals_its_definition_bit_for_bit(
        self, batch, size, kernel, stride, dilation, border, n_in, n_out, n_threads
    ):
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
        height = max(size[0], reach[0] - sum(border[2:]))
        width = max(size[1], reach[1] - sum(border[:2]))
        x, w = numbers(batch, height, width, n_in), numbers(n_out, *kernel, n_in, seed=1)
        conv = FloatConvKernel(w, Geometry((height, width), kernel, stride, border, dilation))
        expected = float_reference.conv2d(x, w, stride, border, dilation)
        assert np.array_equal(run(conv, x, n_threads), expected)

    @pytest.mark.parametrize("n_out", [7, 16, 33])
    @pytest.mark.parametrize("n_in", [1, 3, 17])
    def test_planes_give_what_channels_last_gives(self, n_in, n_out):
        conv = FloatConvKernel(
            numbers(n_out, 3, 3, n_in), Geometry((9, 70), (3, 3), (2, 1), (1, 0, 1, 2))
        )
        x = numbers(2, 9, 70, n_in)
        planes, y = np.ascontiguousarray(np.moveaxis(x, 3, 1)), np.empty(conv._out_shape(2), "f4")
        conv.run(planes.ctypes.data, 2, (), y.ctypes.data, 0, 1, planes=True)
        assert np.array_equal(y, run(conv, x))

    @pytest.mark.parametrize("n_out", [16, 17])
    def test_an_image_is_computed_alike_in_any_batch_and_on_any_threads(self, n_out):
        conv = FloatConvKernel(
            numbers(n_out, 3, 3, 24), Geometry((20, 21), (3, 3), border=(1, 1, 1, 1))
        )
        x = numbers(3, 20, 21, 24)
        alone = np.concatenate([run(conv, x[i : i + 1]) for i in range(3)])
        assert np.array_equal(run(conv, x, n_threads=3), alone)

    def test_a_tie_tells_a_fused_sum_from_a_rounded_one(self):
        # (1 + 2⁻¹²)² − 1 − 2⁻¹¹ is 2⁻²⁴ where the product is not rounded, else 0
        x = np.float32([[[[1, 1 + 2**-12]]]])
        w = np.float32([[[[-1 - 2**-11, 1 + 2**-12]]]])
        assert run(FloatConvKernel(w, Geometry((1, 1), (1, 1))), x).tolist() == [[[[2.0**-24]]]]

    def test_infinities_meet_the_borders_zeros(self):
        w = np.full((1, 1, 3, 1), np.inf, np.float32)
        conv = FloatConvKernel(w, Geometry((1, 3), (1, 3), border=(1, 1, 0, 0)))
        y = run(conv, np.ones((1, 1, 3, 1), np.float32))
        assert np.array_equal(y.ravel(), np.float32([np.nan, np.inf, np.nan]), equal_nan=True)


def test_without_an_implementation_the_definition_computes():
    conv = FloatConvKernel(
        numbers(5, 3, 3, 2), Geometry((4, 5), (3, 3)), [Step("add", numbers(5, seed=2))]
    )
    x = numbers(2, 4, 5, 2)
    native_y = run(conv, x)
    with native.using(native.REFERENCE):
        assert np.array_equal(run(conv, x), native_y)
