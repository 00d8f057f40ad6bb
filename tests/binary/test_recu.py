"""ReCU: the signs stay, the tails get no gradient, and τ goes from one end to the other."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from irbin.binary.anneal import EdePhase
from irbin.binary.estimator import sign
from irbin.binary.layers import BinaryConv2d, Method
from irbin.binary.recu import recu, recu_bound, tau_at

WEIGHT = torch.randn(5, 7, 3, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("tau", [0.51, 0.85, 0.99])
def test_the_bound_is_the_quantile_of_a_laplace_distribution(tau: float) -> None:
    bound = recu_bound(WEIGHT, torch.tensor(tau))
    spread = WEIGHT.abs().mean((1, 2, 3))
    assert bound.shape == (5, 1, 1, 1)
    share_below = 1 - 0.5 * torch.exp(-bound.flatten() / spread)
    assert share_below.tolist() == pytest.approx([tau] * 5, rel=1e-5)


def test_no_sign_changes_and_what_is_inside_stays() -> None:
    tau = torch.tensor(0.85)
    clamped, bound = recu(WEIGHT, tau), recu_bound(WEIGHT, tau)
    assert torch.equal(sign(clamped), sign(WEIGHT))
    inside = WEIGHT.abs() <= bound
    assert 0.5 < inside.float().mean() < 1
    assert torch.equal(clamped[inside], WEIGHT[inside])
    assert torch.equal(clamped.abs(), torch.minimum(WEIGHT.abs(), bound))


def test_the_gradient_is_that_inside_and_zero_outside() -> None:
    weight = WEIGHT.clone().requires_grad_()
    upstream = torch.randn(WEIGHT.shape)
    recu(weight, torch.tensor(0.85)).backward(upstream)
    inside = WEIGHT.abs() <= recu_bound(WEIGHT, torch.tensor(0.85))
    assert weight.grad is not None
    assert torch.equal(weight.grad, torch.where(inside, upstream, torch.zeros(())))


@pytest.mark.parametrize(
    "weight", [torch.zeros(2, 3, 1, 1), torch.full((2, 1, 1, 1), -0.3)], ids=str
)
def test_constant_and_single_weights_stay(weight: torch.Tensor) -> None:
    assert torch.equal(recu(weight, torch.tensor(0.85)), weight)


def test_tau_follows_the_authors_schedule() -> None:
    a = (0.99 - 0.85) / (math.e - 1)
    for progress in (0, 0.25, 1):
        assert tau_at(progress, 0.85, 0.99) == pytest.approx(a * math.e**progress + 0.85 - a)
    assert (tau_at(0, 0.85, 0.99), tau_at(1, 0.85, 0.99)) == (0.85, pytest.approx(0.99))


@pytest.mark.parametrize("binarizer", ["libra", "libra-latent", "plain"])
def test_a_layer_computes_the_same_with_and_without(binarizer: str) -> None:
    phase = EdePhase()
    layer = BinaryConv2d.from_float(nn.Conv2d(7, 5, 3), Method(binarizer), phase)
    phase.set_progress(0.3)
    plain, frozen = layer.binary_weight(), layer.frozen()
    plain.sum().backward()
    assert layer.weight.grad is not None
    gradient = layer.weight.grad.clone()
    layer.weight.grad = None
    phase.set_clamp(0.6, 0.7)
    phase.set_progress(0.3)
    assert float(phase.tau) == pytest.approx(tau_at(0.3, 0.6, 0.7))
    clamped = layer.binary_weight()
    clamped.sum().backward()
    assert torch.equal(clamped, plain)
    assert all(torch.equal(*pair) for pair in zip(layer.frozen(), frozen, strict=True))
    assert not torch.equal(layer.weight.grad, gradient)
