"""Laws of the bit convention, and the binding of the NumPy sign to the one that trains."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from irbin import bits
from irbin.binary import estimator

BORDERS = [0, 1, 7, 8, 9, 31, 32, 33, 63, 64, 65, 97, 128]

TRICKY = np.array(
    [0.0, -0.0, 1e-45, -1e-45, 1e-30, -1e-30, 1.0, -1.0, np.inf, -np.inf, np.nan, -np.nan],
    dtype=np.float32,
)


def test_sign_is_one_definition_in_numpy_and_torch() -> None:
    expected = np.array([1, 1, 1, -1, 1, -1, 1, -1, 1, -1, 1, 1], dtype=np.float32)
    np.testing.assert_array_equal(bits.sign(TRICKY), expected)
    np.testing.assert_array_equal(estimator.sign(torch.from_numpy(TRICKY)).numpy(), expected)
    np.testing.assert_array_equal(bits.unpack(bits.pack(TRICKY), TRICKY.size), expected)


@given(hnp.arrays(np.float32, st.integers(0, 70), elements=st.floats(width=32)))
def test_signs_agree_on_any_float(x: np.ndarray) -> None:
    np.testing.assert_array_equal(bits.sign(x), estimator.sign(torch.from_numpy(x)).numpy())


@pytest.mark.parametrize("n", BORDERS)
def test_unpack_inverts_pack(n: int) -> None:
    x = np.random.default_rng(n).standard_normal((3, n)).astype(np.float32)
    packed = bits.pack(x)
    assert packed.shape == (3, bits.packed_bytes(n))
    np.testing.assert_array_equal(bits.unpack(packed, n), bits.sign(x))


@pytest.mark.parametrize("n", [n for n in BORDERS if n])
def test_tail_bits_are_zero_and_a_set_one_is_seen(n: int) -> None:
    packed = bits.pack(-np.ones((2, n), np.float32))
    assert bits.tail_is_zero(packed, n)
    if n % 8:
        packed[1, -1] |= 1 << (n % 8)
        assert not bits.tail_is_zero(packed, n)


def test_golden_bytes() -> None:
    x = np.array([-1, 1, 1, -1, 1, 1, 1, -1, 1, -1], dtype=np.float32)
    assert bits.pack(x).tolist() == [0b10001001, 0b00000010]


@given(st.integers(1, 130), st.integers(0, 2**32 - 1))
def test_dot_is_depth_minus_two_disagreements(depth: int, seed: int) -> None:
    a, w = np.random.default_rng(seed).standard_normal((2, depth)).astype(np.float32)
    disagreements = int(np.bitwise_count(bits.pack(a) ^ bits.pack(w)).sum())
    assert depth - 2 * disagreements == int(bits.sign(a) @ bits.sign(w))
