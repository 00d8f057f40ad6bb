"""Layers that make an image row by row: every implementation against its definition, and torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from irbin.axes import BoxAxis, Span
from irbin.errors import UsageError
from irbin.kernels import float_reference, native
from irbin.kernels.convolution import FloatConvKernel
from irbin.kernels.geometry import Geometry
from irbin.kernels.lines import (
    AverageKernel,
    ChannelMeanKernel,
    CropKernel,
    DepthwiseKernel,
    GateKernel,
    JoinKernel,
)
from irbin.kernels.steps import Step

CHANNELS = st.sampled_from((1, 7, 8, 9, 16, 31, 33, 63, 64, 65, 97))
SIZES = st.tuples(st.integers(1, 6), st.integers(1, 6))
INF, NAN = np.inf, np.nan


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def run(kernel, x: np.ndarray, *others: np.ndarray, n_threads: int = 1):
    shape = kernel._out_shape(len(x))
    y = np.full(shape, 123, np.float32)
    bits = np.full((*shape[:-1], -(-shape[-1] // 8)), 77, np.uint8)
    kernel(x, others, y, bits, n_threads)
    return y, bits


def check(kernel, x: np.ndarray, *others: np.ndarray) -> np.ndarray:
    """That it computes what it is defined to, on one thread and on two, floats alone too."""
    shape = kernel._out_shape(len(x))
    expected = np.zeros(shape, np.float32)
    expected_bits = np.zeros((*shape[:-1], -(-shape[-1] // 8)), np.uint8)
    kernel.define(x, others, expected, expected_bits)
    for n_threads in (1, 2):
        y, bits = run(kernel, x, *others, n_threads=n_threads)
        assert np.array_equal(y.view(np.int32), expected.view(np.int32))
        assert np.array_equal(bits, expected_bits)
    alone = np.full(shape, 5, np.float32)
    kernel(x, others, alone, None, 1)
    assert np.array_equal(alone, expected)
    return expected


@pytest.mark.usefixtures("implementation")
class TestEveryImplementation:
    @given(n=st.integers(0, 3), size=SIZES, channels=CHANNELS, data=st.data())
    @settings(deadline=None, derandomize=True, max_examples=30)
    def test_averages(self, n, size, channels, data):
        def spans(length):
            ends = st.tuples(st.integers(0, length), st.integers(0, length))
            drawn = data.draw(st.lists(ends, min_size=1, max_size=3))
            return [Span(min(e), max(e), 1 + max(e) - min(e)) for e in drawn]

        steps = [Step("add", numbers(channels, seed=3)), Step("clamp", low=-1, high=1)]
        rows, columns = spans(size[0]), spans(size[1])
        for chosen in ((), steps):
            check(AverageKernel(size, channels, rows, columns, chosen), numbers(n, *size, channels))

    @pytest.mark.slow
    @given(
        n=st.integers(0, 2),
        size=st.tuples(st.integers(3, 8), st.integers(3, 8)),
        kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
        stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
        border=st.tuples(*[st.integers(0, 2)] * 4),
        channels=CHANNELS,
    )
    @settings(deadline=None, derandomize=True, max_examples=30)
    def test_depthwise_convolutions(self, n, size, kernel, stride, border, channels):
        weight, x = numbers(*kernel, channels, seed=1), numbers(n, *size, channels)
        geometry = Geometry(size, kernel, stride, border)
        y = check(DepthwiseKernel(weight, geometry), x)
        grouped = weight.transpose(2, 0, 1)[..., None].copy()
        expected = float_reference.conv2d(x, grouped, stride, border, groups=channels)
        assert np.array_equal(y, expected)

    @pytest.mark.parametrize("groups", [1, 2, 3])
    @pytest.mark.parametrize("n_in", [1, 3, 8])
    def test_grouped_convolutions(self, groups, n_in):
        weight, x = numbers(groups * 8, 3, 2, n_in, seed=1), numbers(2, 5, 9, groups * n_in)
        kernel = FloatConvKernel(
            weight, Geometry((5, 9), (3, 2), (1, 2), (1, 0, 1, 2)), groups=groups
        )
        y = check(kernel, x)
        for g in range(groups):
            own = x[..., g * n_in : (g + 1) * n_in]
            part = float_reference.conv2d(own, weight[8 * g : 8 * g + 8], (1, 2), (1, 0, 1, 2))
            assert np.array_equal(y[..., 8 * g : 8 * g + 8], part)

    @given(n=st.integers(0, 2), size=SIZES, channels=CHANNELS, count=st.integers(1, 9))
    @settings(deadline=None, derandomize=True, max_examples=30)
    def test_means_of_neighboring_channels(self, n, size, channels, count):
        steps = [Step("residual"), Step("clamp", low=-1, high=1)]
        x = numbers(n, *size, channels * count)
        check(ChannelMeanKernel(size, channels, count), x)
        check(
            ChannelMeanKernel(size, channels, count, steps), x, numbers(n, *size, channels, seed=1)
        )

    @given(n=st.integers(0, 2), size=SIZES, channels=CHANNELS, data=st.data())
    @settings(deadline=None, derandomize=True, max_examples=30)
    def test_boxes(self, n, size, channels, data):
        def axis(length):
            start, step = data.draw(st.integers(0, length - 1)), data.draw(st.integers(1, 3))
            taken = data.draw(st.integers(1, (length - 1 - start) // step + 1))
            before, after = data.draw(st.integers(0, 2)), data.draw(st.integers(0, 2))
            return BoxAxis(length, before, taken, start, step, before + taken + after)

        axes = (axis(size[0]), axis(size[1]), axis(channels))
        steps = [Step("multiply", numbers(axes[2].size, seed=2))]
        for chosen in ((), steps):
            check(CropKernel(axes, -0.0, chosen), numbers(n, *size, channels))

    @given(n=st.integers(0, 2), size=SIZES, channels=st.lists(CHANNELS, min_size=1, max_size=4))
    @settings(deadline=None, derandomize=True, max_examples=30)
    def test_joined_channels_behind_a_residual(self, n, size, channels):
        kernel = JoinKernel(size, channels, [Step("residual")])
        parts = [numbers(n, *size, c, seed=i) for i, c in enumerate(channels)]
        residual = numbers(n, *size, sum(channels), seed=9)
        y = check(kernel, parts[0], residual, *parts[1:])
        assert np.array_equal(y, np.concatenate(parts, axis=3) + residual)

    @pytest.mark.parametrize("meeting", ["multiply", "add", "subtract"])
    @pytest.mark.parametrize("channels", [1, 8, 33])
    def test_pixels_that_meet_one_of_their_image(self, meeting, channels):
        steps = [Step("add", numbers(channels, seed=5)), Step("clamp", low=0, high=INF)]
        x, pixel = numbers(3, 4, 5, channels), numbers(3, 1, 1, channels, seed=6)
        check(GateKernel((4, 5), channels, meeting, steps), x, pixel)
        plain = check(GateKernel((4, 5), channels, meeting), x, pixel)
        assert np.array_equal(plain[2], getattr(np, meeting)(x[2], pixel[2]))

    def test_special_values_are_ieee_754s(self):
        x = np.float32([-0.0, -0.0, INF, -INF, NAN, 1]).reshape(1, 1, 6, 1)
        pairs = [Span(0, 2, 2), Span(2, 4, 2), Span(4, 6, 2), Span(3, 3, 1)]
        y = run(AverageKernel((1, 6), 1, [Span(0, 1, 1)], pairs), x)[0].ravel()
        assert np.array_equal(y, np.float32([0, NAN, NAN, 0]), equal_nan=True)
        assert not np.signbit(y[0])
        weight = np.full((1, 3, 1), INF, np.float32)  # meets zeros beyond the border
        kernel = DepthwiseKernel(weight, Geometry((1, 3), (1, 3), border=(1, 1, 0, 0)))
        y = run(kernel, np.ones((1, 1, 3, 1), np.float32))[0].ravel()
        assert np.array_equal(y, np.float32([NAN, INF, NAN]), equal_nan=True)

    def test_many_rows_are_shared_among_threads(self):
        x = numbers(3, 40, 41, 65)
        kernel = DepthwiseKernel(numbers(3, 3, 65), Geometry((40, 41), (3, 3), (1, 1), (1,) * 4))
        whole = check(kernel, x)
        alone = [run(kernel, x[i : i + 1])[0] for i in range(3)]
        assert np.array_equal(whole, np.concatenate(alone))


def test_averages_are_torchs_within_rounding():
    x = numbers(2, 7, 7, 20)
    whole = [Span(0, 7, 7)]
    y = float_reference.averages(x, whole, whole)
    assert np.allclose(y[:, 0, 0], x.astype(np.float64).mean((1, 2)), atol=1e-6)


def test_the_order_of_an_averages_sum_is_by_rows():
    x = np.float32([[2**24, 1], [1, -(2**24)]])[None, :, :, None]
    whole = [Span(0, 2, 1)]
    # 2²⁴ + 1 rounds to 2²⁴, twice; the other order gives 1 or 2
    assert float_reference.averages(x, whole, whole).ravel().tolist() == [0.0]


def test_depthwise_is_torchs_within_rounding():
    x, weight = numbers(2, 6, 5, 9), numbers(3, 2, 9, seed=1)
    y = float_reference.depthwise_conv2d(x, weight, (2, 1), (1, 0, 1, 1))
    planes = F.pad(torch.from_numpy(x).permute(0, 3, 1, 2).double(), (1, 0, 1, 1))
    kernel = torch.from_numpy(weight).permute(2, 0, 1)[:, None].double()
    expected = F.conv2d(planes, kernel, stride=(2, 1), groups=9).permute(0, 2, 3, 1)
    assert np.allclose(y, expected.numpy(), atol=1e-5)


def test_without_an_implementation_the_definition_computes():
    kernel = GateKernel((2, 3), 5, "multiply")
    x, pixel = numbers(2, 2, 3, 5), numbers(2, 1, 1, 5)
    compiled = run(kernel, x, pixel)[0]
    with native.using(native.REFERENCE):
        assert np.array_equal(run(kernel, x, pixel)[0], compiled)


class TestRefused:
    def test_windows_beyond_the_image(self):
        with pytest.raises(UsageError, match="expected windows within 0 to 4"):
            AverageKernel((4, 4), 3, [Span(0, 5, 5)], [Span(0, 4, 4)])

    @pytest.mark.parametrize("axis", [BoxAxis(4, 0, 3, 2, 1, 3), BoxAxis(4, 1, 4, 0, 1, 4)])
    def test_boxes_of_what_is_not_there(self, axis):
        whole = BoxAxis(4, 0, 4, 0, 1, 4)
        with pytest.raises(UsageError, match="expected a box that copies what is there"):
            CropKernel((whole, axis, whole))

    def test_weights_of_another_size(self):
        with pytest.raises(UsageError, match="`weight`"):
            DepthwiseKernel(numbers(3, 2, 4), Geometry((5, 5), (3, 3)))

    def test_groups_that_divide_nothing(self):
        with pytest.raises(UsageError, match="`groups`: expected a divisor of 6, got 4"):
            FloatConvKernel(numbers(6, 1, 1, 2), Geometry((2, 2), (1, 1)), groups=4)

    def test_another_operation_nothing_to_join_and_pixels_of_another_size(self):
        with pytest.raises(UsageError, match="`meeting`: expected one of"):
            GateKernel((2, 2), 3, "divide")
        with pytest.raises(UsageError, match="`channels`: expected one number at least"):
            JoinKernel((2, 2), [])
        with pytest.raises(UsageError, match=r"`residuals\[0\]`: expected float32 \(1, 1, 1, 3\)"):
            run(GateKernel((2, 2), 3, "add"), numbers(1, 2, 2, 3), numbers(1, 2, 2, 3))
        with pytest.raises(UsageError, match="expected 1 residuals, got 0"):
            run(GateKernel((2, 2), 3, "add"), numbers(1, 2, 2, 3))

    def test_steps_of_other_channels(self):
        with pytest.raises(UsageError, match="`add`"):
            JoinKernel((2, 2), [3, 4], [Step("add", numbers(3))])
