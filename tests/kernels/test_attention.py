"""Attention: every implementation against the definition, and that against torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from irbin.errors import UsageError
from irbin.kernels import float_reference
from irbin.kernels.attention import AttentionKernel, Heads, Look
from irbin.kernels.steps import Step
from tests.kernels.conftest import as_defined

ROWS = st.sampled_from((1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 50))
NUMBERS = st.sampled_from((1, 3, 8, 15, 16, 17, 32, 33, 48))
INF, NAN = np.inf, np.nan


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def apart(heads: Heads) -> tuple[Look, Look, Look]:
    """Queries, keys and values as (rows, heads, numbers), each in memory of its own."""
    n, _, _, depth, width = heads
    sizes = ((heads.n_queries, depth), (heads.n_keys, depth), (heads.n_keys, width))
    looks = [Look(n_rows * n * own, 0, own, n * own) for n_rows, own in sizes]
    return looks[0], looks[1], looks[2]


def check(kernel: AttentionKernel, *read: np.ndarray, residual: np.ndarray | None = None):
    """That it computes what it is defined to, on one thread and on two."""
    x, keys, values = read
    others = (keys, values) if residual is None else (residual, keys, values)
    return as_defined(kernel, x, *others)


def made(heads: Heads, n: int, scale: float = 0.5, **options):
    looks = apart(heads)
    read = [3 * numbers(n, look.size, seed=i) for i, look in enumerate(looks)]
    return AttentionKernel(heads, looks, scale, **options), read


@pytest.mark.usefixtures("implementation")
class TestEveryImplementation:
    @given(
        n=st.integers(0, 3),
        n_heads=st.integers(1, 3),
        rows=st.tuples(ROWS, ROWS),
        sizes=st.tuples(NUMBERS, NUMBERS),
        masked=st.sampled_from(("", "one", "all")),
    )
    @settings(deadline=None, derandomize=True, max_examples=25)
    def test_attention(self, n, n_heads, rows, sizes, masked):
        heads = Heads(n_heads, *rows, *sizes)
        shape = (n_heads if masked == "all" else 1, *rows)
        mask = numbers(*shape, seed=7) if masked else None
        kernel, read = made(heads, n, mask=mask)
        check(kernel, *read)

    def test_steps_on_the_result(self):
        n_channels = 2 * 17
        steps = [
            Step("multiply", numbers(n_channels, seed=1)),
            Step("residual"),
            Step("gelu"),
        ]
        kernel, read = made(Heads(2, 11, 19, 8, 17), 2, steps=steps)
        check(kernel, *read, residual=numbers(2, 11, n_channels, seed=9))

    def test_parts_of_one_layers_result(self):
        heads, size = Heads(3, 20, 20, 16, 16), 20 * 3 * 48
        looks = [Look(size, part * 48, 16, 144) for part in range(3)]
        kernel = AttentionKernel(heads, (looks[0], looks[1], looks[2]), 0.25)
        x = numbers(2, size)
        y = check(kernel, x, x, x)
        q, k, v = torch.from_numpy(x).reshape(2, 20, 3, 3, 16).permute(2, 0, 3, 1, 4)
        expected = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        assert np.allclose(y, expected, atol=1e-5)

    @pytest.mark.parametrize("special", [INF, -INF, NAN, 3e38, 1e-45, -0.0])
    def test_special_values_are_ieee_754s(self, special):
        kernel, read = made(Heads(1, 9, 21, 4, 5), 2)
        for array in read:
            array[0, 3] = special
        check(kernel, *read)

    @pytest.mark.parametrize("special", [INF, -INF, NAN])
    def test_a_mask_may_be_anything(self, special):
        mask = numbers(1, 9, 21)
        mask[0, 2, 5:], mask[0, 3] = special, special
        kernel, read = made(Heads(1, 9, 21, 4, 5), 1, mask=mask)
        check(kernel, *read)


@pytest.mark.parametrize("scale", [0.1, 1.0, 8.0])
@pytest.mark.parametrize("masked", [False, True])
def test_the_definition_is_torchs_within_rounding(scale, masked):
    q, k, v = (numbers(2, 3, rows, 16, seed=rows) for rows in (11, 13, 13))
    mask = numbers(3, 11, 13) if masked else None
    found = float_reference.attention(q, k, v, np.float32(scale), mask)
    q, k, v = (torch.from_numpy(one).double() for one in (q, k, v))
    bias = None if mask is None else torch.from_numpy(mask).double()
    expected = F.scaled_dot_product_attention(q, k, v, bias, scale=scale)
    assert np.abs(found - expected.numpy()).max() < 2e-6 * max(1, scale)


def test_what_is_read_must_be_there():
    heads = Heads(2, 4, 4, 8, 8)
    look = Look(64, 0, 8, 16)
    for wrong in (Look(63, 0, 8, 16), Look(64, 1, 8, 16), Look(64, 0, 9, 16), Look(64, 0, 8, 17)):
        with pytest.raises(UsageError, match=r"`looks`: expected rows within 6[34] numbers, got"):
            AttentionKernel(heads, (look, wrong, look), 1.0)


def test_a_mask_is_of_one_head_or_of_each():
    heads, look = Heads(3, 4, 5, 8, 8), Look(120, 0, 8, 24)
    with pytest.raises(UsageError, match="`mask`: expected 1 or 3 heads, got 2"):
        AttentionKernel(heads, (look, look, look), 1.0, np.zeros((2, 4, 5), np.float32))
    with pytest.raises(UsageError, match="`mask`: expected float32"):
        AttentionKernel(heads, (look, look, look), 1.0, np.zeros((1, 5, 4), np.float32))
