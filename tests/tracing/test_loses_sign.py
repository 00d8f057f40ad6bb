"""Activations that never have the other sign than their input, found by running them."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from timm.models.nfnet import GammaAct
from torch import Tensor, nn

from irbin.tracing.loses_sign import loses_sign, lost_sign, whole_activations

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


MADE: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "x - tanh(x)": (lambda x: x - x.tanh(), 1),
    "x - sin(x)": (lambda x: x - x.sin(), 1),
    "x - atan(x)": (lambda x: x - x.atan(), 1),
    "sinh(x) - x": (lambda x: x.sinh() - x, 1),
    "x - softsign(x)": (lambda x: x - F.softsign(x), 1),
    "2 sigmoid(x) - 1": (lambda x: 2 * x.sigmoid() - 1, 1),
    "exp(x) - 1": (lambda x: x.exp() - 1, 1),
    "softplus(x) - log(2)": (lambda x: F.softplus(x) - math.log(2), 1),
    "x sigmoid(x)": (lambda x: x * x.sigmoid(), 1),
    "x exp(x) / (1 + exp(x))": (lambda x: x * x.exp() / (1 + x.exp()), 1),
    "tanh(x) - x": (lambda x: x.tanh() - x, -1),
    "gelu(x) - x": (lambda x: F.gelu(x) - x, -1),
    "x": (lambda x: x * 1, 0),
    "-x": (lambda x: -x, 0),
    "-gelu(x)": (lambda x: -F.gelu(x), 0),
    "x|x|": (lambda x: x * x.abs(), 0),
    "x^3": (lambda x: x**3, 0),
    "expm1(x)": (lambda x: x.expm1(), 0),
    "cos(x) - 1": (lambda x: x.cos() - 1, 0),
    "tanh(x) - 1e-5": (lambda x: x.tanh() - 1e-5, 0),
    "silu(x) - gelu(x)": (lambda x: F.silu(x) - F.gelu(x), 0),
}


class Made(nn.Module):
    def __init__(self, call: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(x)


@pytest.mark.parametrize(("call", "found"), MADE.values(), ids=MADE)
def test_differences_that_are_rounding_near_zero_are_found(
    call: Callable[[Tensor], Tensor], found: int
) -> None:
    assert lost_sign(Made(call)) == found


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
