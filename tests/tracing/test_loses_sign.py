"""Activations that never have the other sign than their input, found by running them."""

from __future__ import annotations

import pytest
import torch
from timm.models.nfnet import GammaAct
from torch import Tensor, nn

from irbin.tracing.loses_sign import loses_sign, whole_activations

from .conftest import LOSING

OTHERS = [
    nn.ReLU(),
    nn.ReLU6(),
    nn.Hardtanh(),
    nn.Tanh(),
    nn.ELU(),
    nn.LeakyReLU(),
    nn.PReLU(),
    nn.Sigmoid(),
    nn.Softplus(),
    nn.LogSigmoid(),
    nn.Identity(),
    nn.Dropout(),
    nn.Flatten(0),
    nn.Softmax(0),
    nn.LayerNorm(222),
    nn.MaxPool2d(2),
    nn.GLU(0),
    nn.BatchNorm2d(3),
]


@pytest.mark.parametrize("module", LOSING.values(), ids=LOSING)
def test_what_rounds_to_zero_below_zero_is_found_by_running(module: nn.Module) -> None:
    assert loses_sign(module)


@pytest.mark.parametrize("module", OTHERS, ids=lambda m: type(m).__name__)
def test_nothing_else_is(module: nn.Module) -> None:
    assert not loses_sign(module)


class HardSwish(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU6(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return x * (self.relu(x + 3) / 6)


class AboveTheMean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * (x > 2 * x.mean() - 5)


def test_activations_made_of_others_are_found_whole() -> None:
    own, gamma = HardSwish(), GammaAct("gelu")
    net = nn.Sequential(nn.Conv2d(3, 3, 1), own, nn.Sequential(nn.GELU()), gamma, nn.ReLU())
    assert whole_activations(net) == {own, gamma}


def test_what_looks_at_other_numbers_too_is_no_activation() -> None:
    assert not loses_sign(AboveTheMean())


def test_looking_leaves_the_random_numbers_alone() -> None:
    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.rand_like(x)

    state = torch.get_rng_state()
    assert not loses_sign(Noisy())
    assert torch.equal(torch.get_rng_state(), state)
