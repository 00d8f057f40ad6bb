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


FOLDED = {
    "sum": lambda x, axes: x.sum(axes, keepdim=True),
    "mean": lambda x, axes: x.mean(axes, keepdim=True),
    "norm": lambda x, axes: torch.linalg.vector_norm(x, dim=axes, keepdim=True),
    "variance": lambda x, axes: x.var(axes, keepdim=True, correction=0),
    "deviation": lambda x, axes: x.std(axes, keepdim=True, correction=0),
    "largest": lambda x, axes: x.amax(axes, keepdim=True),
    "smallest": lambda x, axes: x.amin(axes, keepdim=True),
}


@pytest.mark.parametrize("axes", [(0,), (2, 0), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("folding", FOLDED)
def test_what_is_folded_is_torchs_but_for_rounding(folding: str, axes: tuple[int, ...]) -> None:
    x = drawn(4, 3, 5)
    n = np.prod([x.shape[axis] for axis in axes])
    made = tensor_reference.folded(x, axes, folding, float(n))
    near(made, FOLDED[folding](torch.from_numpy(x), axes))


def test_sums_begin_with_the_first_in_the_order_of_the_axes() -> None:
    x = np.float32([[1e8, 1], [-1e8, 1]])
    assert tensor_reference.folded(x, (0, 1), "sum") == 1
    assert tensor_reference.folded(x, (1, 0), "sum") == 2
    assert np.signbit(tensor_reference.folded(np.float32([-0.0]), (0,), "sum"))


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
