"""Layer and group norms: every implementation against the definition, and its order of sums."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from irbin.errors import UsageError
from irbin.kernels import float_reference
from irbin.kernels.norms import GroupNormKernel, LayerNormKernel
from irbin.kernels.steps import Step
from tests.kernels.conftest import as_defined

CHANNELS = st.sampled_from((1, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 97, 200))
INF, NAN = np.inf, np.nan


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def learned(n_channels: int) -> list[Step]:
    return [
        Step("multiply", numbers(n_channels, seed=1)),
        Step("add", numbers(n_channels, seed=2)),
        Step("residual"),
        Step("gelu"),
    ]


@pytest.mark.usefixtures("implementation")
class TestEveryImplementation:
    @given(n=st.integers(0, 19), channels=CHANNELS)
    @settings(deadline=None, derandomize=True, max_examples=30)
    def test_layer_norms(self, n, channels):
        x, residual = numbers(n, channels), numbers(n, channels, seed=9)
        as_defined(LayerNormKernel(channels, 1e-6), x)
        as_defined(LayerNormKernel(channels, 1e-6, learned(channels)), x, residual)
        as_defined(LayerNormKernel(channels, 1e-6, is_centered=False), x)

    @given(
        n=st.integers(0, 3),
        size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
        channels=CHANNELS,
        data=st.data(),
    )
    @settings(deadline=None, derandomize=True, max_examples=30)
    def test_group_norms(self, n, size, channels, data):
        groups = data.draw(st.sampled_from([g for g in range(1, channels + 1) if not channels % g]))
        x, residual = numbers(n, *size, channels), numbers(n, *size, channels, seed=9)
        as_defined(GroupNormKernel(size, channels, groups, 1e-5), x)
        as_defined(GroupNormKernel(size, channels, groups, 1e-5, learned(channels)), x, residual)

    @pytest.mark.parametrize("special", [INF, -INF, NAN, 3e38, 1e-45, -0.0])
    @pytest.mark.parametrize("epsilon", [0.0, 1e-5])
    def test_special_values_are_ieee_754s(self, special, epsilon):
        x = numbers(4, 40)
        x[1, 3], x[2], x[3] = special, special, 0
        as_defined(LayerNormKernel(40, epsilon), x)
        as_defined(GroupNormKernel((1, 1), 40, 4, epsilon), x[:, None, None, :])
        as_defined(GroupNormKernel((5, 2), 4, 2, epsilon), x.reshape(4, 5, 2, 4))

    def test_many_rows_are_shared_among_threads(self):
        x = numbers(2000, 97)
        whole = as_defined(LayerNormKernel(97, 1e-5), x)
        assert np.array_equal(whole[7:8], as_defined(LayerNormKernel(97, 1e-5), x[7:8]))
        images = numbers(3, 40, 40, 32)
        whole = as_defined(GroupNormKernel((40, 40), 32, 4, 1e-5), images)
        alone = as_defined(GroupNormKernel((40, 40), 32, 4, 1e-5), images[1:2])
        assert np.array_equal(whole[1:2], alone)


@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 192, 1000])
def test_a_layer_norm_is_torchs_within_rounding(n):
    x = numbers(5, n) + 3
    expected = F.layer_norm(torch.from_numpy(x).double(), (n,), eps=1e-5).numpy()
    assert np.allclose(float_reference.layer_norm(x, 1e-5), expected, atol=2e-5 if n > 2 else 2e-4)


@pytest.mark.parametrize("n", [1, 15, 16, 17, 1000])
def test_an_rms_norm_is_torchs_within_rounding(n):
    x = numbers(5, n) + 3
    expected = F.rms_norm(torch.from_numpy(x).double(), (n,), eps=1e-5).numpy()
    assert np.allclose(float_reference.layer_norm(x, 1e-5, is_centered=False), expected, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 3, 12])
def test_a_group_norm_is_torchs_within_rounding(groups):
    x = numbers(2, 5, 7, 12) + 3
    planes = torch.from_numpy(x).permute(0, 3, 1, 2).double()
    expected = F.group_norm(planes, groups, eps=1e-5).permute(0, 2, 3, 1).numpy()
    assert np.allclose(float_reference.group_norm(x, groups, 1e-5), expected, atol=1e-5)


def test_sixteen_partial_sums_are_added_in_halves():
    x = np.zeros((1, 33), np.float32)
    # 2²⁴ + 1 rounds to 2²⁴: numbers 0 and 16 meet in one partial sum, 1 and 9 in the first halves
    x[0, [0, 16, 32]] = 2**24, 1, 1
    assert float_reference.sums_of_rows(x).item() == 2**24
    x[0, [0, 16, 32, 1, 9]] = 2**24, 0, 0, 1, 1
    assert float_reference.sums_of_rows(x).item() == 2**24 + 2


def test_a_groups_columns_are_added_before_its_rows():
    x = np.float32([[2**24, -(2**24)], [1, 1]])[None, :, :, None]
    assert float_reference._added_in_order(x, 2).ravel().tolist() == [0, 2]
    sums = float_reference._added_in_order(float_reference._added_in_order(x, 2), 1)
    assert sums.item() == 2


class TestRefused:
    def test_no_channels_and_groups_that_divide_nothing(self):
        with pytest.raises(UsageError, match="`n_channels`: expected an integer from 1"):
            LayerNormKernel(0, 1e-5)
        with pytest.raises(UsageError, match="`n_groups`: expected a divisor of 6, got 4"):
            GroupNormKernel((2, 2), 6, 4, 1e-5)
        with pytest.raises(UsageError, match="`n_groups`: expected an integer from 1"):
            GroupNormKernel((2, 2), 6, 0, 1e-5)

    def test_steps_of_other_channels(self):
        with pytest.raises(UsageError, match="`add`"):
            LayerNormKernel(4, 1e-5, [Step("add", numbers(3))])
