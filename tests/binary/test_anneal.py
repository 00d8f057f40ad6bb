"""The EDE schedule: its ends, its two stages, and that it travels with the network."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from irbin.binary.anneal import EDE_SCALES, EdePhase, even_k, paper_k
from irbin.binary.estimator import ede_sign
from irbin.binary.layers import BinaryConv2d, Method
from irbin.errors import UsageError


def phase_at(t_min: float, t_max: float, progress: float) -> tuple[float, float]:
    phase = EdePhase(t_min, t_max)
    phase.set_progress(progress)
    return float(phase.t), float(phase.k)


@pytest.mark.parametrize("t_min", [0.001, 0.1])
def test_both_ends_are_reached(t_min: float) -> None:
    assert phase_at(t_min, 10, 0) == pytest.approx((t_min, 1 / t_min))
    assert phase_at(t_min, 10, 1) == pytest.approx((10, 1))


@pytest.mark.parametrize(("t_min", "share"), [(0.1, 0.5), (0.01, 2 / 3), (0.001, 0.75)])
def test_stage_one_ends_where_t_is_one(t_min: float, share: float) -> None:
    assert phase_at(t_min, 10, share) == pytest.approx((1, 1), rel=1e-5)
    assert phase_at(t_min, 10, share - 0.1)[1] > 1
    assert phase_at(t_min, 10, share + 0.1)[1] == 1


def test_peak_gradient_is_one_through_stage_one() -> None:
    for progress in (0.0, 0.2, 0.4):
        t, k = phase_at(0.1, 10, progress)
        assert t * k == pytest.approx(1, rel=1e-6)


def test_progress_outside_is_clamped() -> None:
    assert phase_at(0.1, 10, -1) == phase_at(0.1, 10, 0)
    assert phase_at(0.1, 10, 2) == phase_at(0.1, 10, 1)


@pytest.mark.parametrize(
    "ends", [(0.0, 1.0), (-1.0, 1.0), (2.0, 1.0), (1.0, float("inf")), (float("nan"), 1.0)], ids=str
)
def test_senseless_ends_are_refused(ends: tuple[float, float]) -> None:
    with pytest.raises(UsageError, match=r"expected 0 < t_min ≤ t_max, got"):
        EdePhase(*ends)


def test_t_and_k_are_saved_moved_and_copied_with_the_network() -> None:
    network = nn.Module()
    network.ede = EdePhase()
    network.ede.set_progress(0.7)
    fresh = nn.Module()
    fresh.ede = EdePhase()
    fresh.load_state_dict(network.state_dict())
    assert set(network.state_dict()) == {"ede.t", "ede.k"}
    assert torch.equal(fresh.ede.t, network.ede.t)
    assert float(copy.deepcopy(network).ede.t) == float(network.ede.t)


def test_a_root_that_runs_its_children_in_turn_is_not_disturbed() -> None:
    x = torch.randn(2, 3)
    assert nn.Sequential(nn.ReLU(), EdePhase())(x).equal(x.relu())


def test_what_training_sets_besides_is_not_saved_but_copied() -> None:
    network = nn.Module()
    network.ede = EdePhase()
    network.ede.set_clamp(0.85, 0.99)
    network.ede.set_stage(binary_weights=False, binary_activations=True)
    network.ede.spreads_inputs = True
    network.ede.set_progress(0.5)
    assert set(network.state_dict()) == {"ede.t", "ede.k"}
    copied = copy.deepcopy(network).ede
    assert torch.equal(copied.tau, network.ede.tau)
    assert (copied.clamps, copied.binary_weights, copied.binary_activations) == (True, False, True)
    assert (copied.spreads_inputs, EdePhase().spreads_inputs) == (True, False)
    assert (EdePhase().clamps, EdePhase().binary_weights) == (False, True)


SHARP = st.floats(1.0, 1e4)
BLUNT = st.floats(1e-4, 1.0, exclude_max=True)


@given(BLUNT)
def test_both_scales_are_one_rule_below_one(t: float) -> None:
    assert paper_k(t) == even_k(t) == 1 / t


@given(SHARP)
def test_from_one_on_the_paper_keeps_k_and_even_keeps_its_square_times_t(t: float) -> None:
    assert paper_k(t) == 1
    assert even_k(t) ** 2 * t == pytest.approx(1)
    assert even_k(math.nextafter(1.0, 0.0)) == pytest.approx(even_k(1.0)) == 1


@pytest.mark.parametrize("scale", EDE_SCALES)
def test_the_phase_follows_its_scale(scale: str) -> None:
    phase = EdePhase(0.1, 10, scale)
    for progress in (0.0, 0.3, 0.5, 0.9, 1.0):
        phase.set_progress(progress)
        assert float(phase.k) == pytest.approx(EDE_SCALES[scale](float(phase.t)))
    assert set(phase.state_dict()) == {"t", "k"}
    phase.set_range(0.1, 10)
    phase.set_progress(1.0)
    assert float(phase.k) == 1  # the paper's, unless one asks


def test_a_scale_that_there_is_not_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^`scale`: expected one of paper, even, got flat$"):
        EdePhase(scale="flat")


def mean_square_slope(t: float, k: float) -> float:
    """Over inputs of a normal distribution, by the trapezoid rule in u = t·x."""
    u = torch.linspace(-40, 40, 20_001, dtype=torch.float64)
    x = (u / t).requires_grad_()
    ede_sign(x, torch.tensor(t).double(), torch.tensor(k).double()).sum().backward()
    density = torch.exp(-x.detach().square() / 2) / math.sqrt(2 * math.pi)
    assert x.grad is not None
    return float(torch.trapezoid(density * x.grad.square(), x.detach()))


LIMIT = 4 / 3 / math.sqrt(2 * math.pi)
"""(4/3)·p(0) of a normal distribution."""


@given(st.floats(10.0, 1e4))
def test_the_mean_square_slope_is_four_thirds_of_the_density_times_k2_t(t: float) -> None:
    assert mean_square_slope(t, 1.0) == pytest.approx(LIMIT * t, rel=0.01)
    assert mean_square_slope(t, even_k(t)) == pytest.approx(LIMIT, rel=0.01)


@given(SHARP)
def test_even_keeps_the_mean_square_slope(t: float) -> None:
    assert 0.46 < mean_square_slope(t, even_k(t)) < 1.0001 * LIMIT  # but for the trapezoids


class Deep(nn.Module):
    """Binary convolutions of one width, each with a norm, and round it a shortcut or none."""

    def __init__(self, n_layers: int, phase: EdePhase, shortcuts: bool, width: int = 16) -> None:
        super().__init__()
        floats = [nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(n_layers)]
        self.convs = nn.ModuleList(BinaryConv2d.from_float(c, Method(), phase) for c in floats)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in floats)
        self.shortcuts = shortcuts

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        inputs = []
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x.retain_grad()
            inputs.append(x)
            y = norm(conv(x))
            x = nn.functional.hardtanh(y + x) if self.shortcuts else y
        return x, inputs


def growth_of_the_gradient(t: float, scale: str, shortcuts: bool) -> float:
    """Root mean square of dL/dx of the first of 19 layers, over that of the last one."""
    torch.manual_seed(0)
    network = Deep(19, EdePhase(t, t, scale), shortcuts)
    x = nn.functional.hardtanh(torch.randn(16, 16, 8, 8)).requires_grad_()
    y, inputs = network(x)
    (y.mean((2, 3)) * torch.randn(16, 16)).sum().backward()
    first, last = (inputs[i].grad.square().mean().sqrt() for i in (0, -1))
    return float(first / last)


def test_a_gradient_survives_nineteen_layers_if_k_is_even_and_explodes_if_it_is_the_papers() -> (
    None
):
    assert 0.1 < growth_of_the_gradient(10, "even", shortcuts=True) < 10
    assert growth_of_the_gradient(10, "paper", shortcuts=True) > 1000
    assert 0.1 < growth_of_the_gradient(1, "paper", shortcuts=True) < 10


@pytest.mark.parametrize("scale", EDE_SCALES)
@pytest.mark.parametrize("t", [3.0, 10.0])
def test_without_shortcuts_each_layer_multiplies_by_the_root_of_the_mean_square(
    scale: str, t: float
) -> None:
    per_layer = growth_of_the_gradient(t, scale, shortcuts=False) ** (1 / 18)
    assert per_layer == pytest.approx(math.sqrt(LIMIT * t) * EDE_SCALES[scale](t), rel=0.1)
