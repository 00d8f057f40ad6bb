from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from irbin.binary.anneal import EdePhase
from irbin.binary.estimator import ESTIMATORS
from irbin.binary.layers import Method
from irbin.rewriting.network import Network
from irbin.watching.probe import probe, usable_radius

from .conftest import Root, conv, linear

MakeNetwork = Callable[..., Network]


def only(module: nn.Module, images: torch.Tensor, amp: str | None = None) -> dict[str, float]:
    """The figures of a network's only binary layer."""
    (figures,) = probe(module, images, amp).values()
    return figures


@pytest.mark.parametrize("t", [1e-3, 0.1, 1.0, 3.0, 10.0, 1000.0])
@pytest.mark.parametrize("name", ["ede", "ste", "triangle"])
@pytest.mark.parametrize("scale", ["paper", "even"])
def test_within_the_radius_the_gradient_is_usable(name: str, t: float, scale: str) -> None:
    phase = EdePhase(t, t, scale)
    radius = usable_radius(name, phase)
    x = torch.tensor([0.0, 0.999, 1.001], dtype=torch.float64).mul_(radius).requires_grad_()
    ESTIMATORS[name](x, phase.t.double(), phase.k.double()).sum().backward()
    assert (x.grad >= 0.1).tolist() == [True, True, False]


def test_by_identity_every_gradient_is_usable() -> None:
    assert usable_radius("identity", EdePhase(1000, 1000)) == math.inf


def test_figures_of_activations_are_by_channel() -> None:
    x = torch.ones(128, 4, 2, 2)
    x[: 128 // 2, 0] = -1  # H = 1
    x[: 128 // 4, 1] = -1  # H = 0.8113
    x[:1, 2] = -1  # 1 of 128 pixels is less than 1 %
    x[:, 3] = 50
    row = only(conv(4, 4, Method(estimator="ste")), x)
    rare = -(math.log2(1 / 128) / 128 + math.log2(127 / 128) * 127 / 128)
    assert row["activation_entropy"] == pytest.approx((1 + 0.811278 + rare) / 4, rel=1e-4)
    assert row["dead_channels"] == 0.5
    assert row["activation_gradient"] == 0.75


def test_channels_of_a_linear_layer_are_last() -> None:
    x = torch.ones(6, 5, 8)
    x[:3, :, 0] = -1
    row = only(linear(), x)
    assert (row["activation_entropy"], row["dead_channels"]) == (0.125, 0.875)


@pytest.mark.parametrize("kind", ["conv", "linear"])
def test_figures_are_of_what_the_sign_is_taken_of(kind: str) -> None:
    method = Method(estimator="ste", learned_threshold=True)
    layer = conv(8, 4, method) if kind == "conv" else linear(method=method)
    x = torch.ones(8, 8, 4, 4) if kind == "conv" else torch.ones(8, 5, 8)
    x[:4] = -1
    dead, alive = only(layer, x * 0), only(layer, x)
    assert (dead["dead_channels"], alive["dead_channels"]) == (1.0, 0.0)
    with torch.no_grad():
        layer.threshold[:2] = torch.tensor([1.5, -1.5])
    row = only(layer, x)
    assert row["dead_channels"] == 0.25  # all below the one, all above the other
    assert row["activation_gradient"] == pytest.approx(
        1 - 0.5 * 0.25
    )  # half of two is out of reach


@pytest.mark.parametrize("kind", ["conv", "linear"])
def test_by_image_activations_are_measured_in_their_spread(kind: str) -> None:
    method = Method(estimator="ste")
    layer = conv(8, 4, method) if kind == "conv" else linear(method=method)
    torch.manual_seed(0)
    x = 100 * (torch.randn(8, 8, 4, 4) if kind == "conv" else torch.randn(8, 50, 8))
    assert only(layer, x)["activation_gradient"] < 0.02
    layer.phase.spreads_inputs = True
    assert only(layer, x)["activation_gradient"] == pytest.approx(0.683, abs=0.05)  # of a normal


def test_the_gap_is_in_running_standard_deviations() -> None:
    norm = nn.BatchNorm2d(4)
    module = nn.Sequential(conv(), norm).train()
    torch.manual_seed(0)
    x = torch.randn(16, 2, 6, 6)
    for _ in range(200):
        module(x)
    assert only(module, x)["statistics_gap"] < 1e-3
    norm.running_mean += torch.tensor([0, 1, 2, 3]) * (norm.running_var + norm.eps).sqrt()
    assert only(module, x)["statistics_gap"] == pytest.approx(1.5, abs=1e-3)


@pytest.mark.parametrize(
    "behind",
    [
        [nn.MaxPool2d(2), nn.BatchNorm2d(4)],
        [nn.BatchNorm2d(4, track_running_stats=False)],
        [],
    ],
    ids=["pooled_before", "without_statistics", "nothing"],
)
def test_without_a_norm_right_behind_there_is_no_gap(behind: list[nn.Module]) -> None:
    row = only(nn.Sequential(conv(), *behind), torch.randn(4, 2, 6, 6))
    assert "statistics_gap" not in row


def test_branches_find_their_own_norms() -> None:
    def run(self: Root, x: torch.Tensor) -> torch.Tensor:
        a, b = self.a(x), self.b(x)
        return self.norm_a(a) + self.norm_b(b)

    norms = {"norm_a": nn.BatchNorm1d(4), "norm_b": nn.BatchNorm1d(4)}
    norms["norm_b"].running_mean += 100
    root = Root(run, a=linear(), b=linear(), **norms)
    first, second = probe(root, torch.randn(16, 8), None).values()
    assert first["statistics_gap"] < 10
    assert second["statistics_gap"] > 50


def test_a_layer_called_twice_has_the_mean_of_its_calls() -> None:
    x = torch.ones(4, 8)
    x[:2] = -1
    root = Root(lambda self, x: self.layer(x) + self.layer(x.abs()), layer=linear())
    row = only(root, x)
    assert (row["activation_entropy"], row["dead_channels"]) == (0.5, 0.5)


def test_activations_that_stay_float_have_no_figures() -> None:
    module = nn.Sequential(conv(method=Method(binary_activations=False)), nn.BatchNorm2d(4))
    row = only(module, torch.randn(4, 2, 6, 6))
    assert row.keys() == {"statistics_gap"}


def test_an_argument_given_by_name_is_seen() -> None:
    root = Root(lambda self, x: self.layer(x=x), layer=linear())
    assert "activation_entropy" in only(root, torch.randn(4, 8))


def test_memory_format_and_autocast_move_nothing_much(make_network: MakeNetwork) -> None:
    module = make_network().module
    images = torch.randn(32, 3, 8, 8)
    plain = only(module, images)
    last = only(
        module.to(memory_format=torch.channels_last),
        images.to(memory_format=torch.channels_last),
        "bfloat16",
    )
    assert plain == pytest.approx(last, abs=0.02)


def test_measuring_leaves_no_trace(make_network: MakeNetwork) -> None:
    module = make_network().module.train()
    module.bn1.eval()
    modes = [part.training for part in module.modules()]
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    random = torch.get_rng_state()
    hook = module.conv.register_forward_hook(lambda *_: None)
    module.register_forward_pre_hook(lambda *_: torch.rand(1) and None)  # draws while it runs
    probe(module, torch.randn(4, 3, 8, 8, generator=torch.Generator()), None)
    assert modes == [part.training for part in module.modules()]
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert list(module.conv._forward_hooks) == [hook.id]
    assert not module.conv._forward_pre_hooks
    assert not module.bn2._forward_pre_hooks
    assert all(parameter.grad is None for parameter in module.parameters())


def test_a_run_that_fails_leaves_no_trace_either(make_network: MakeNetwork) -> None:
    module = make_network().module.train()
    with pytest.raises(RuntimeError):
        probe(module, torch.randn(4, 5, 8, 8), None)
    assert all(part.training for part in module.modules())
    assert not any(p._forward_hooks or p._forward_pre_hooks for p in module.modules())
