"""Products and softmax of tensors: what torch gives but for rounding; borders to the bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from irbin.kernels import float_reference, tensor_reference


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def near(made: np.ndarray, wanted: torch.Tensor) -> None:
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, wanted.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("depth", [1, 7, 16, 33])
def test_matmul_is_torchs_but_for_rounding(depth: int) -> None:
    a, b = drawn(2, 1, 5, depth), drawn(3, depth, 4)
    near(tensor_reference.matmul(a, b), torch.from_numpy(a) @ torch.from_numpy(b))


def test_matmul_adds_from_plus_zero_in_order() -> None:
    a, b = np.float32([[1e8, 1, -1e8, 1]]), np.ones((4, 1), np.float32)
    assert tensor_reference.matmul(a, b) == 1
    assert not np.signbit(tensor_reference.matmul(np.float32([[-0.0]]), np.float32([[1.0]])))


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("n", [1, 15, 16, 17])
def test_softmax_is_torchs_but_for_rounding(axis: int, n: int) -> None:
    x = drawn(n, n + 1, 3) * 9
    near(tensor_reference.softmax(x, axis), torch.from_numpy(x).softmax(axis))


def test_softmax_of_borders() -> None:
    rows = np.float32([[np.inf, 0, 1], [np.nan, 0, 1], [-np.inf, 0, 0], [-np.inf] * 3])
    made = tensor_reference.softmax(rows, 1)
    assert np.isnan(made[[0, 1, 3]]).any(axis=1).all()
    assert made[2].tolist() == [0, 0.5, 0.5]


@pytest.mark.parametrize("kind", ["none", "added", "truth"])
def test_attention_is_torchs_but_for_rounding(kind: str) -> None:
    q, k, v = drawn(2, 3, 5, 8), drawn(2, 3, 7, 8), drawn(2, 3, 7, 4)
    masks = {"none": None, "added": drawn(5, 7), "truth": drawn(3, 1, 7) > -1}
    mask = masks[kind]
    given = None if mask is None else torch.from_numpy(mask)
    wanted = F.scaled_dot_product_attention(*map(torch.from_numpy, (q, k, v)), given, scale=0.7)
    near(tensor_reference.attention(q, k, v, mask, 0.7), wanted)
    near(
        tensor_reference.attention(q, k, v),
        F.scaled_dot_product_attention(*map(torch.from_numpy, (q, k, v))),
    )


def test_products_are_those_of_the_kernels_attention() -> None:
    """Of one key there is nothing to add: both definitions give the value."""
    q, k, v = drawn(1, 2, 3, 4), drawn(1, 2, 1, 4), drawn(1, 2, 1, 5)
    one = float_reference.attention(q, k, v, np.float32(0.5))
    assert np.array_equal(tensor_reference.attention(q, k, v, scale=0.5), one)
