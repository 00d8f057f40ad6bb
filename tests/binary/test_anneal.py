"""The EDE schedule: its ends, its two stages, and that it travels with the network."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from irbin.binary.anneal import EdePhase
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
    network.ede.set_progress(0.5)
    assert set(network.state_dict()) == {"ede.t", "ede.k"}
    copied = copy.deepcopy(network).ede
    assert torch.equal(copied.tau, network.ede.tau)
    assert (copied.clamps, copied.binary_weights, copied.binary_activations) == (True, False, True)
    assert (EdePhase().clamps, EdePhase().binary_weights) == (False, True)
