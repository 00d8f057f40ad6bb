"""Multiply-adds of products, against a count of what a plain loop would do."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irbin.tracing.recorder import BATCH, record
from irbin.tracing.trace import trace

MACS = 3 * 5 * 7
"""Per image: a product of a 5×7 and a 7×3 matrix."""


class Product(nn.Module):
    """Applies a function to two activations of (batch, 5, 7) and (batch, 7, 3)."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.function = nn.Linear(4, 56), function

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x.flatten(1))
        return self.function(y[:, :35].reshape(-1, 5, 7), y[:, 35:].reshape(-1, 7, 3))


def counted(function: Callable[[Tensor, Tensor], Tensor]) -> int:
    return record(Product(function), ["layer"], (1, 2, 2))[0].other_macs


FUNCTIONS = {
    "matmul": torch.matmul,
    "@": lambda a, b: a @ b,
    "method": lambda a, b: a.matmul(b),
    "bmm": torch.bmm,
    "baddbmm": lambda a, b: torch.baddbmm(torch.zeros(1, device=a.device), a, b),
    "heads": lambda a, b: a.reshape(-1, 1, 5, 7) @ b.reshape(-1, 1, 7, 3),
    "einsum": lambda a, b: torch.einsum("b i k, b k j -> b i j", a, b),
    "einsum list": lambda a, b: torch.einsum("bik,bkj->bij", [a, b]),
    "einsum dots": lambda a, b: torch.einsum("...ik,...kj->...ij", a, b),
    "einsum summed": lambda a, b: torch.einsum("bik,bkj->b", a, b),
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS.keys())
def test_a_product_counts_however_it_is_written(function) -> None:
    assert counted(function) == MACS


NO_PRODUCTS = {
    "elementwise": lambda a, b: a[:, :, :3] * b[:, :5],
    "sum": lambda a, b: a.sum() + b.sum(),
    "einsum of one": lambda a, b: torch.einsum("bij->bji", a),
}


@pytest.mark.parametrize("function", NO_PRODUCTS.values(), ids=NO_PRODUCTS.keys())
def test_what_is_no_product_of_matrices_counts_nothing(function) -> None:
    assert counted(function) == 0


def test_vectors_and_broadcast_matrices_count() -> None:
    assert counted(lambda a, b: a @ b[:1, :, 0].squeeze(0)) == 5 * 7
    assert counted(lambda a, b: a @ b[0]) == MACS


def test_products_that_are_spread_on_both_sides_count_every_pair() -> None:
    assert counted(lambda a, b: a[:, :, None, :] @ b[:, None]) == MACS
    assert counted(lambda a, b: a[:, None, :2] @ b.reshape(-1, 3, 7, 1)) == 3 * 2 * 7
    assert counted(lambda a, b: a.reshape(-1, 5, 1, 7) @ b[:, None]) == 5 * 7 * 3
    spread = lambda a, b: torch.einsum("bik,bkj->bij", a[:, :, :1], b)  # noqa: E731
    assert counted(spread) == MACS


def test_attention_on_shared_keys_counts_every_query() -> None:
    def attend(a: Tensor, b: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(a[:1], b.mT, b.mT)

    assert counted(attend) == 2 * 5 * 3 * 7


def attention(a: Tensor, b: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(a, b.mT, b.mT)


def test_attention_is_two_products() -> None:
    assert counted(attention) == 5 * 3 * 7 + 5 * 3 * 7
    named = lambda a, b: F.scaled_dot_product_attention(query=a, key=b.mT, value=b.mT)  # noqa: E731
    assert counted(named) == counted(attention)


class Heads(nn.Module):
    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.heads, self.is_first = (
            nn.MultiheadAttention(8, 2, batch_first=batch_first),
            batch_first,
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2).mT  # (batch, 16, 8)
        x = x if self.is_first else x.transpose(0, 1)
        return self.heads(x, x, x, need_weights=False)[0]


@pytest.mark.parametrize("batch_first", [False, True])
def test_multi_head_attention_of_torch_counts_its_products(batch_first: bool) -> None:
    found = record(Heads(batch_first), ["heads"], (8, 4, 4))[0]
    assert found.other_macs == 2 * 16 * 16 * 8


def test_layers_are_not_counted_again_and_the_graph_knows() -> None:
    assert BATCH == 2
    graph = trace(Product(torch.bmm), (1, 2, 2))
    assert graph.other_macs == MACS
    assert [layer.n_macs for layer in graph.layers] == [4 * 56]
