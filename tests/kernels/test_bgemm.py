"""`ops.bgemm` against its definition, for every implementation: integers, so exactly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irbin.bits import pack
from irbin.kernels import ops, reference

BORDERS = (1, 7, 8, 31, 32, 33, 63, 64, 65, 97, 128)

pytestmark = pytest.mark.usefixtures("implementation")


def random_signs(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).choice(np.array([-1, 1], np.float32), shape)


def dots(x: np.ndarray, w: np.ndarray, n_threads: int = 1) -> np.ndarray:
    return ops.bgemm(pack(x), pack(w), None, None, x.shape[-1], n_threads)


@pytest.mark.slow
@given(
    depth=st.one_of(st.sampled_from(BORDERS), st.integers(1, 1200)),
    outer=st.one_of(
        st.tuples(st.integers(0, 3)), st.tuples(st.integers(0, 3), st.integers(1, 40)), st.just(())
    ),
    n_out=st.one_of(st.sampled_from((1, 8, 15, 16, 17, 32, 33)), st.integers(1, 80)),
    n_threads=st.sampled_from((1, 2)),
    seed=st.integers(0, 2**32 - 1),
)
@settings(deadline=None, derandomize=True, max_examples=150)
def test_dot_equals_definition(depth, outer, n_out, n_threads, seed):
    x, w = random_signs(*outer, depth, seed=seed), random_signs(n_out, depth, seed=seed ^ 1)
    expected = reference.bgemm_dot(pack(x), pack(w), depth)
    assert np.array_equal(dots(x, w, n_threads), expected)


@pytest.mark.parametrize("depth", [*BORDERS, 31 * 32, 31 * 32 + 1, 40_000])
def test_extreme_dots_are_plus_and_minus_depth(depth):
    w = random_signs(17, depth)
    y = dots(np.concatenate([w[:1], -w[:1]]), w)
    assert y[0, 0] == depth
    assert y[1, 0] == -depth


@pytest.mark.parametrize("n_rows", [1, 2, 130], ids="{} rows".format)
def test_threads_give_what_one_gives(n_rows):
    x, w = random_signs(n_rows, 6000), random_signs(1500, 6000, seed=1)
    assert np.array_equal(dots(x, w, 3), dots(x, w, 1))
    assert np.array_equal(dots(x, w, 3), reference.bgemm_dot(pack(x), pack(w), 6000))


@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("scale", [False, True], ids=["no scale", "scale"])
@pytest.mark.parametrize("n_out", [3, 16, 33])
def test_scale_and_bias_are_two_roundings(n_out, scale, bias):
    rng = np.random.default_rng(n_out)
    x, w = random_signs(5, 97), random_signs(n_out, 97, seed=1)
    scale_log2 = rng.integers(-126, 100, n_out).astype(np.int8) if scale else None
    added = rng.standard_normal(n_out).astype(np.float32) if bias else None
    y = ops.bgemm(pack(x), pack(w), scale_log2, added, 97)
    assert np.array_equal(y, reference.bgemm(pack(x), pack(w), scale_log2, added, 97))
