"""`ops.bitpack` against its definition, for every implementation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from irbin.bits import tail_is_zero, unpack
from irbin.kernels import ops, reference

BORDERS = (1, 7, 8, 9, 31, 32, 33, 63, 64, 65, 97, 128)
TRICKY = np.array(
    [0.0, -0.0, 1e-45, -1e-45, 1e-30, -1e-30, 1.0, -1.0, np.inf, -np.inf, np.nan, -np.nan],
    np.float32,
)

pytestmark = pytest.mark.usefixtures("implementation")


def tricky(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).choice(TRICKY, shape)


@pytest.mark.slow
@given(
    shape=hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=40),
    axis=st.integers(0, 3),
    seed=st.integers(0, 2**32 - 1),
    n_threads=st.sampled_from((1, 2)),
)
@settings(deadline=None, derandomize=True, max_examples=150)
def test_any_axis_of_any_shape_packs_as_defined(shape, axis, seed, n_threads):
    x, axis = tricky(*shape, seed=seed), axis % len(shape)
    assert np.array_equal(ops.bitpack(x, axis, 1, n_threads), reference.bitpack(x, axis))


@pytest.mark.parametrize("n_channels", BORDERS)
def test_planes_pack_as_defined(n_channels):
    for n_pixels in (1, 2, 15, 16, 17, 63, 64, 65, 150):
        x = tricky(2, n_channels, n_pixels, 1)
        assert np.array_equal(ops.bitpack(x, 1), reference.bitpack(x, 1))


@pytest.mark.parametrize("n_channels", BORDERS)
@pytest.mark.parametrize("axis", [1, 2], ids=["planes", "rows"])
def test_tail_bits_are_zero_even_where_everything_is_negative(n_channels, axis):
    x = np.full((2, n_channels, 19), -1, np.float32)
    bits = ops.bitpack(np.moveaxis(x, 1, axis).copy(), axis)
    assert bits.shape == (2, 19, -(-n_channels // 8))
    assert tail_is_zero(bits, n_channels)
    assert np.bitwise_count(bits).sum() == x.size


def test_only_what_is_less_than_zero_is_minus_one():
    x = np.broadcast_to(TRICKY, (17, len(TRICKY))).copy()
    expected = [1, 1, 1, -1, 1, -1, 1, -1, 1, -1, 1, 1]
    assert np.array_equal(unpack(ops.bitpack(x, 1), len(TRICKY)), np.array([expected] * 17))


@given(
    per_group=st.integers(1, 40),
    groups=st.integers(1, 3),
    axis=st.integers(0, 2),
    seed=st.integers(0, 2**32 - 1),
)
@settings(deadline=None, derandomize=True, max_examples=100)
def test_each_group_starts_on_a_byte(per_group, groups, axis, seed):
    x = np.moveaxis(tricky(3, 5, per_group * groups, seed=seed), 2, axis)
    assert np.array_equal(ops.bitpack(x, axis, groups), reference.bitpack(x, axis, groups))


@pytest.mark.parametrize(
    "view",
    [lambda x: x[::2], lambda x: x[:, :, ::-1], lambda x: x.T, lambda x: x[:, 1:, 1:]],
    ids=["every second", "backwards", "transposed", "inside"],
)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_view_packs_as_its_copy(view, axis):
    x = view(tricky(6, 17, 9))
    assert np.array_equal(ops.bitpack(x, axis), ops.bitpack(x.copy(), axis))


@pytest.mark.parametrize("shape", [(3, 65, 50, 50), (7000, 65)], ids=["planes", "rows"])
def test_threads_give_what_one_gives(shape):
    x = tricky(*shape)
    one, three = ops.bitpack(x, 1, n_threads=1), ops.bitpack(x, 1, n_threads=3)
    assert np.array_equal(one, three)
    assert np.array_equal(one, reference.bitpack(x, 1))
