"""A sign behind a kept one is taken in front of the activation, past what only moves."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from irbin.binary.activations import Called, SignKept
from irbin.binary.anneal import EdePhase
from irbin.binary.layers import BinaryLinear, Method
from irbin.program.lower import lower


class Tokens(nn.Module):
    def __init__(self, move: object, learned: bool = False, act: nn.Module | None = None) -> None:
        super().__init__()
        self.stem, self.act, self.move = nn.Conv2d(3, 8, 4, 4), act or SignKept(nn.GELU()), move
        method = Method(learned_threshold=learned)
        self.body = BinaryLinear.from_float(nn.Linear(8, 5), method, EdePhase())

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self.move(self.act(self.stem(x)))).sum(1)


def operators(net: nn.Module) -> list[str]:
    return [node.op for node in lower(net, (3, 8, 8)).program.nodes]


MOVES = {
    "flatten": lambda y: y.flatten(2).transpose(1, 2),
    "permute": lambda y: y.permute(0, 2, 3, 1).reshape(-1, 4, 8),
    "slice": lambda y: y.permute(0, 2, 3, 1)[:, 0],
}


@pytest.mark.slow
@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
def test_the_activation_is_not_computed_where_only_its_sign_is_read(move) -> None:
    torch.manual_seed(0)
    found = operators(Tokens(move))
    assert "bitpack" in found
    assert not {"aten.gelu.default", "aten.lt.Scalar", "aten.where.self"} & set(found)


@pytest.mark.slow
def test_of_one_that_falls_the_sign_of_the_negated_input_is_taken() -> None:
    torch.manual_seed(0)
    act = SignKept(Called(lambda x: torch.tanh(x) - x, (), {}), falls=True)
    found = operators(Tokens(MOVES["slice"], act=act))
    assert found[found.index("bitpack") - 1] == "aten.neg.default"
    assert not {"aten.tanh.default", "aten.gt.Scalar", "aten.where.self"} & set(found)


@pytest.mark.slow
def test_what_works_in_place_is_copied_nowhere() -> None:
    torch.manual_seed(0)
    for move, is_read in ((MOVES["flatten"], False), (KEPT["pooled"], True)):
        found = operators(Tokens(move, act=SignKept(nn.SiLU(inplace=True))))
        assert ("aten.silu.default" in found) == is_read
        assert "aten.copy.default" not in found


KEPT = {
    "pooled": lambda y: y.mean((2, 3), keepdim=True).flatten(2).transpose(1, 2),
    "joined": lambda y: torch.cat([y, y], 2).flatten(2).transpose(1, 2),
}


@pytest.mark.slow
@pytest.mark.parametrize("move", KEPT.values(), ids=KEPT)
def test_what_makes_other_numbers_of_it_reads_the_activation(move) -> None:
    torch.manual_seed(0)
    assert {"aten.gelu.default", "aten.lt.Scalar"} <= set(operators(Tokens(move)))


@pytest.mark.slow
def test_a_learned_threshold_compares_with_the_activation() -> None:
    torch.manual_seed(0)
    found = operators(Tokens(MOVES["flatten"], learned=True))
    assert found.count("aten.sub.Tensor") == 1
    assert "aten.gelu.default" in found
