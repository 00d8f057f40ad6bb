"""Every row of every table has all that is needed, and says what its class or function does."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

import irbin
from irbin.binary.activations import RPReLU
from irbin.binary.estimator import ESTIMATORS as RULES
from irbin.binary.libra import BINARIZERS
from irbin.program.fused import Fused, StepKind
from irbin.records.kinds import (
    ACTIVATIONS,
    BALANCES,
    DOWNSAMPLES,
    ESTIMATORS,
    SHORTCUTS,
    binarizer_name,
    estimator_of_weights,
)
from irbin.records.options import Preprocessing, SourceRecord
from irbin.records.plan import Activation, Balance, Downsample, Estimator, Shortcut, WeightEstimator
from irbin.rewriting.network import Network

POINTS = torch.tensor([-3.0, -1.0, -0.5, -0.0, 0.0, 0.25, 1.0, 2.0])


class Block(nn.Module):
    """A ReLU between two convolutions, of which a plan binarizes both."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.conv1 = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(16)
        self.fc = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(self.stem(x))))
        return self.fc(self.bn2(self.conv2(x)).mean((2, 3)))


def test_every_choice_has_a_row_and_every_row_is_a_choice() -> None:
    assert tuple(ACTIVATIONS) == get_args(Activation)
    assert {"same", *ESTIMATORS} == set(get_args(WeightEstimator))
    for_activations = [name for name, kind in ESTIMATORS.items() if kind.is_for_activations]
    assert tuple(for_activations) == get_args(Estimator)
    assert tuple(BALANCES) == get_args(Balance)
    assert tuple(SHORTCUTS) == get_args(Shortcut)
    assert tuple(DOWNSAMPLES) == get_args(Downsample)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_computes_its_equation(name: Activation) -> None:
    kind = ACTIVATIONS[name]
    module = kind.cls(2, 0.25) if kind.n_learned else kind.cls(inplace=False)
    learned = dict(module.named_parameters())
    for parameter in learned.values():
        nn.init.uniform_(parameter, 0.1, 0.9)
    assert sum(p.numel() for p in learned.values()) == 2 * kind.n_learned
    x = POINTS.repeat(1, 2, 1, 1)
    first = {key: p.detach().view(1, -1, 1, 1) for key, p in learned.items()}
    names = {"x": x, "w": first.get("weight"), "γ": first.get("in_offset")}
    names["ζ"] = first.get("out_offset")
    words = {"max": _extreme(torch.maximum), "min": _extreme(torch.minimum)}
    equation = kind.equation.replace("−", "-").replace("·", "*")
    assert torch.allclose(module(x), eval(equation, words, names))
    assert kind.gives_both_signs == bool((module(x) < 0).any())


def _extreme(of):
    """`max` and `min` of two, either of which may be a number."""
    return lambda a, b: of(torch.as_tensor(a, dtype=torch.float), torch.as_tensor(b))


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n, kind in ACTIVATIONS.items() if kind.gives_both_signs])
def test_an_activation_becomes_its_steps_in_a_kernel(name: Activation, tmp_path) -> None:
    torch.manual_seed(0)
    module = Block()
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    nn.init.constant_(module.bn1.weight, 0.3)
    feeding = Preprocessing((3, 8, 8), (0.5,) * 3, (0.5,) * 3, "bilinear", 1.0)
    source = SourceRecord("module:a:b", "module:a:b", 4, feeding)
    network = irbin.convert(Network(module, source), activation=name, binarize=("conv1",))
    for part in network.module.modules():
        if isinstance(part, RPReLU):
            nn.init.constant_(part.in_offset, 0.2)
            nn.init.constant_(part.out_offset, 0.1)
    irbin.export(network, tmp_path / "packed")
    packed = irbin.load(tmp_path / "packed")
    kernels = [item for item in packed.items if isinstance(item, Fused) and item.bits]
    steps = [step.kind for step in kernels[-1].steps]
    wanted = list(ACTIVATIONS[name].steps)
    assert any(steps[i : i + len(wanted)] == wanted for i in range(len(steps))), steps


def test_steps_are_those_that_kernels_have() -> None:
    for kind in ACTIVATIONS.values():
        assert set(kind.steps) <= set(get_args(StepKind))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_an_estimator_computes_its_equation(name: str) -> None:
    kind = ESTIMATORS[name]
    assert RULES[name] is kind.rule
    t, k = torch.tensor(0.7), torch.tensor(1.5)
    x = POINTS.clone().requires_grad_()
    kind.rule(x, t, k).sum().backward()
    equation = kind.equation
    for ours, pythons in (
        ("−", "-"),
        ("·", "*"),
        ("²(t*x)", "(t*x)**2"),
        ("²", "**2"),
        ("|x|", "abs(x)"),
        ("≤", "<="),
    ):
        equation = equation.replace(ours, pythons)
    if equation.startswith("["):
        equation = f"1.0 * ({equation[1:-1]})"
    found = eval(
        equation,
        {"tanh": torch.tanh, "abs": abs, "max": _extreme(torch.maximum)},
        {"x": x.detach(), "t": t, "k": k},
    )
    assert torch.allclose(x.grad, torch.as_tensor(found, dtype=torch.float).expand(len(x)))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_only_what_anneals_follows_t(name: str) -> None:
    kind, slopes = ESTIMATORS[name], []
    for t in (0.5, 2.0):
        x = POINTS.clone().requires_grad_()
        kind.rule(x, torch.tensor(t), torch.tensor(1.0)).sum().backward()
        slopes.append(x.grad)
    assert torch.equal(*slopes) != kind.anneals


@pytest.mark.parametrize("u", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("name", [name for name in ESTIMATORS if name != "identity"])
def test_up_to_its_radius_an_estimator_lets_through(name: str, u: float) -> None:
    kind, t, k = ESTIMATORS[name], 1.5, 1.0
    radius = kind.usable_radius(u, t, k)
    x = torch.tensor([0.999, 1.001], dtype=torch.double).mul_(radius).requires_grad_()
    kind.rule(x, torch.tensor(t).double(), torch.tensor(k).double()).sum().backward()
    assert (x.grad >= u).tolist() == [True, False]
    assert ESTIMATORS["identity"].usable_radius(u, t, k) == math.inf


def test_weights_follow_the_activations_unless_told() -> None:
    assert estimator_of_weights("ste", "same") == "ste"
    assert estimator_of_weights("ste", "identity") == "identity"


@pytest.mark.parametrize("balance", BALANCES)
@pytest.mark.parametrize("keeps_size", [False, True])
def test_every_balance_has_its_binarizers(balance: Balance, keeps_size: bool) -> None:
    w = torch.tensor([[0.0, 1.0, 5.0]])
    source, _ = BINARIZERS[binarizer_name("libra", balance, keeps_size)](w)
    centre = {"mean": w.mean(), "median": w.median()}
    word = BALANCES[balance].equation.removeprefix("w − ").removesuffix("(w)")
    assert torch.allclose(source * w.std(), w - centre[word], atol=1e-5)
    assert binarizer_name("plain", balance, keeps_size) == "plain"


def test_no_binarizer_is_left_out() -> None:
    named = {
        binarizer_name(binarizer, balance, keeps)
        for binarizer in ("libra", "plain")
        for balance in BALANCES
        for keeps in (False, True)
    }
    assert named == set(BINARIZERS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "name"),
    [*(("shortcut", s) for s in SHORTCUTS), *(("downsample", d) for d in DOWNSAMPLES)],
)
def test_a_forward_is_rewritten_where_the_row_says_so(option: str, name: str) -> None:
    table = SHORTCUTS if option == "shortcut" else DOWNSAMPLES
    network = irbin.convert("paper:resnet20", **{option: name})
    edited = hasattr(network.module, "irbin_shortcuts")
    assert edited == table[name].edits_graph
