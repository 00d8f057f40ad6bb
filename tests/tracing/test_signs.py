"""What can be negative: ReLUs and kin are found through everything that keeps their sign."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irbin.planning.plan import make_plan
from irbin.records.plan import PlanOptions
from irbin.tracing.one_sign import kind_of_module
from irbin.tracing.signs import is_replaceable_module
from irbin.tracing.trace import trace


class Probe(nn.Module):
    """conv → `between` → conv: what is known of the second convolution's input."""

    def __init__(self, between: Callable[[Tensor], Tensor], channels: int = 4) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(channels, 4, 1)
        self.act, self.norm = nn.ReLU(), nn.BatchNorm2d(4)
        self.between = between if isinstance(between, nn.Module) else None
        self.function = between

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = self.between(x) if self.between is not None else self.function(x)
        return self.second(x)


def second(between: Callable[[Tensor], Tensor], channels: int = 4):
    layers = {r.name: r for r in trace(Probe(between, channels), (3, 8, 8)).layers}
    return layers["second"]


PASSING = {
    "max-pool": nn.MaxPool2d(2),
    "avg-pool": nn.AvgPool2d(2),
    "adaptive": nn.AdaptiveAvgPool2d(4),
    "dropout": nn.Dropout(0.5),
    "identity": nn.Identity(),
    "upsample": nn.Upsample(scale_factor=2),
    "zero-pad": nn.ZeroPad2d(1),
}


@pytest.mark.parametrize("module", PASSING.values(), ids=PASSING)
def test_modules_that_keep_the_sign_are_seen_through(module: nn.Module) -> None:
    found = second(nn.Sequential(nn.ReLU(), module))
    assert found.activations == ("between.0",)
    assert found.never_negative == ""


FUNCTIONS = {
    "F.relu": F.relu,
    "relu_": torch.relu_,
    "method": lambda x: x.relu(),
    "relu6": F.relu6,
    "clamp": lambda x: x.clamp(min=0),
    "clamp-position": lambda x: torch.clamp(x, 0.0, 6.0),
    "hardtanh": lambda x: F.hardtanh(x, 0.0, 6.0),
    "then-pool": lambda x: F.max_pool2d(F.relu(x), 2),
    "then-reshape": lambda x: F.relu(x).flatten(2).view(-1, 4, 8, 8).permute(0, 1, 3, 2),
    "then-scale": lambda x: F.relu(x) * 2 + 1,
    "then-dropout": lambda x: F.dropout(F.relu(x), 0.1),
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_functions_are_named_after_their_node(function: Callable[[Tensor], Tensor]) -> None:
    found = second(function)
    assert len(found.activations) == 1
    assert found.activations[0].endswith("()")


NEGATIVE = {
    "nothing": lambda x: x,
    "gelu": F.gelu,
    "leaky": lambda x: F.leaky_relu(x, 0.1),
    "clamp-below": lambda x: x.clamp(min=-1),
    "minus": lambda x: F.relu(x) - 1,
    "plus-negative": lambda x: F.relu(x) + -1,
    "times-negative": lambda x: -2 * F.relu(x),
    "plus-unknown": lambda x: F.relu(x) + x,
    "negative": lambda x: -F.relu(x),
    "attention by": lambda x: F.scaled_dot_product_attention(x.sigmoid(), x.sigmoid(), x),
    "hardtanh": F.hardtanh,
}


@pytest.mark.parametrize("function", NEGATIVE.values(), ids=NEGATIVE)
def test_what_can_be_negative_has_no_cause(function: Callable[[Tensor], Tensor]) -> None:
    found = second(function)
    assert found.activations == ()
    assert found.never_negative == ""


FIXED = {
    "sigmoid": torch.sigmoid,
    "softmax": lambda x: x.softmax(1),
    "abs": torch.abs,
    "square": lambda x: x.pow(2),
    "attention to": lambda x: F.scaled_dot_product_attention(x, x, x.sigmoid()),
    "attention to, by name": lambda x: F.scaled_dot_product_attention(x, x, value=x.sigmoid()),
}


@pytest.mark.parametrize("function", FIXED.values(), ids=FIXED)
def test_what_cannot_be_replaced_is_named(function: Callable[[Tensor], Tensor]) -> None:
    found = second(function)
    assert found.activations == ()
    assert found.never_negative in {"sigmoid", "softmax", "abs", "pow"}


def test_both_branches_of_a_concatenation_are_causes_whatever_their_size() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.ReLU(), nn.ReLU6()

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([self.a(x), self.b(x[:, :1])], 1)

    assert second(Branches(), 5).activations == ("between.a", "between.b")


def test_a_gate_is_not_blamed_for_the_sign_of_what_it_scales() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act, self.gate = nn.ReLU(), nn.ReLU6()

        def forward(self, x: Tensor) -> Tensor:
            x = self.act(x)
            return x * (self.gate(x.mean((2, 3), keepdim=True) + 3) / 6)

    assert second(Gated()).activations == ("between.act",)


def test_an_activation_in_place_changes_what_later_readers_see() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = nn.ReLU(inplace=True)

        def forward(self, x: Tensor) -> Tensor:
            self.act(x)
            return x

    assert second(InPlace()).activations == ("between.act",)


RECTIFIED_TWICE = {
    "over one in place": lambda p, x: p.act(F.relu_(x)),
    "functions": lambda p, x: F.relu(F.relu6(x, inplace=True)),
    "pooled between": lambda p, x: F.max_pool2d(x.clamp_(min=0), 2).relu_(),
}


@pytest.mark.parametrize("both", RECTIFIED_TWICE.values(), ids=RECTIFIED_TWICE)
def test_of_rectifiers_behind_each_other_both_are_causes(both: Any) -> None:
    class Twice(Probe):
        def forward(self, x: Tensor) -> Tensor:
            return self.second(both(self, self.first(x)))

    found = {r.name: r for r in trace(Twice(nn.ReLU()), (3, 8, 8)).layers}["second"]
    assert len(found.activations) == 2
    assert found.never_negative == ""


def test_behind_what_cannot_be_replaced_a_rectifier_is_no_cause() -> None:
    found = second(lambda x: F.relu(torch.sigmoid(x)))
    assert found.activations == ()
    assert found.never_negative == "sigmoid"


def test_a_blur_filter_keeps_products_non_negative() -> None:
    class Blur(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("kernel", torch.ones(4, 1, 3, 3) / 9)

        def forward(self, x: Tensor) -> Tensor:
            return F.conv2d(F.relu(x), self.kernel, groups=4)

    assert second(Blur()).activations == ("relu()",)


def test_norms_with_an_activation_inside_are_opened() -> None:
    import timm

    network = nn.Sequential(timm.layers.BatchNormAct2d(4))
    assert second(network).activations == ("between.0.act",)
    quiet = nn.Sequential(timm.layers.BatchNormAct2d(4, apply_act=False))
    assert second(quiet).activations == ()


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (nn.ReLU(), True),
        (nn.ReLU6(), True),
        (nn.Hardtanh(0, 1), True),
        (nn.Hardtanh(), False),
        (nn.Threshold(0.1, 0), True),
        (nn.Threshold(-1, 0), False),
        (nn.GELU(), False),
        (nn.Sigmoid(), False),
    ],
    ids=repr,
)
def test_replaceable_modules(module: nn.Module, expected: bool) -> None:
    assert is_replaceable_module(module) is expected


def slopes(*values: float) -> nn.PReLU:
    made = nn.PReLU(len(values))
    made.weight.data.copy_(torch.tensor(values))
    return made


NEVER_NEGATIVE, ALWAYS_NEGATIVE, RELU = "never negative", "always negative", "relu"
SLOPED = {
    "leaky": (nn.LeakyReLU(0.2), ""),
    "leaky below zero": (nn.LeakyReLU(-0.2), NEVER_NEGATIVE),
    "leaky zero": (nn.LeakyReLU(0.0), RELU),
    "leaky in place": (nn.LeakyReLU(-0.2, inplace=True), NEVER_NEGATIVE),
    "prelu": (slopes(0.2), ""),
    "prelu below zero": (slopes(-0.2), NEVER_NEGATIVE),
    "prelu mixed": (slopes(-0.2, 0.2, -0.1), ""),
    "prelu all below zero": (slopes(-0.2, -0.1, -1.0), NEVER_NEGATIVE),
    "prelu zero, which learns": (slopes(0.0), ""),
    "rrelu": (nn.RReLU(), ""),
    "rrelu below zero": (nn.RReLU(-0.3, -0.1), NEVER_NEGATIVE),
    "rrelu zero": (nn.RReLU(0.0, 0.0), RELU),
    "elu": (nn.ELU(), ""),
    "elu below zero": (nn.ELU(-1.0), NEVER_NEGATIVE),
    "elu zero": (nn.ELU(0.0), RELU),
    "celu": (nn.CELU(), ""),
    "celu below zero": (nn.CELU(-1.0), ""),
    "celu of zero, which fails": (nn.CELU(0.0), ""),
    "selu": (nn.SELU(), ""),
    "threshold": (nn.Threshold(-1.0, -5.0), ""),
    "threshold to one": (nn.Threshold(0.0, 1.0), NEVER_NEGATIVE),
    "threshold as relu": (nn.Threshold(0.0, 0.0), RELU),
    "hardtanh": (nn.Hardtanh(), ""),
    "hardtanh above zero": (nn.Hardtanh(0.5, 2.0), NEVER_NEGATIVE),
    "hardtanh below zero": (nn.Hardtanh(-2.0, -0.5), ALWAYS_NEGATIVE),
    "hardtanh to zero": (nn.Hardtanh(-2.0, 0.0), ""),
    "log-sigmoid": (nn.LogSigmoid(), ALWAYS_NEGATIVE),
    "softshrink": (nn.Softshrink(), ""),
    "in training mode": (nn.RReLU(-0.3, -0.1).train(), NEVER_NEGATIVE),
    "with another shape": (nn.Flatten(0), ""),
    "with children": (nn.Sequential(nn.LeakyReLU(-0.2)), ""),
}


@pytest.mark.parametrize(("module", "kind"), SLOPED.values(), ids=SLOPED)
def test_what_settings_make_of_an_activation_is_found_by_running_it(
    module: nn.Module, kind: str
) -> None:
    before = copy.deepcopy(module)
    assert kind_of_module(module) == kind
    assert module.training == before.training
    assert all(map(torch.equal, module.parameters(), before.parameters()))


def test_weights_without_numbers_say_nothing() -> None:
    assert kind_of_module(slopes(-0.2).to("meta")) == ""


class Fed(nn.Module):
    """body reads what `act` makes of the stem."""

    def __init__(self, act: Any) -> None:
        super().__init__()
        self.stem, self.act = nn.Conv2d(3, 8, 1), act
        self.body, self.head = nn.Conv2d(8, 8, 1), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.act(self.stem(x))).mean((2, 3)))


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (nn.LeakyReLU(-0.2), "input never negative (LeakyReLU(negative_slope=-0.2))"),
        (
            slopes(-0.2),
            "input never negative (PReLU(num_parameters=1), whose slopes are below zero)",
        ),
        (nn.Hardtanh(-2, -1), "input always negative (Hardtanh(min_val=-2, max_val=-1))"),
        (lambda x: F.leaky_relu(x, -0.2), "input never negative (leaky_relu(negative_slope=-0.2))"),
        (lambda x: F.elu(x, alpha=-1.0), "input never negative (elu(alpha=-1.0))"),
        (lambda x: F.logsigmoid(x), "input always negative (log_sigmoid())"),
        (lambda x: F.threshold(x, 0.0, 1.0), "input never negative (threshold(0.0, 1.0))"),
    ],
    ids=["leaky", "prelu", "hardtanh", "F.leaky_relu", "F.elu", "F.logsigmoid", "F.threshold"],
)
def test_the_layer_behind_one_sign_stays_float_and_says_why(act: Any, reason: str) -> None:
    plan = make_plan(trace(Fed(act), (3, 8, 8)), PlanOptions(binarize=("head",)))
    assert {d.layer.name: d.reason for d in plan.decisions}["body"] == reason


def test_a_relu_by_its_settings_is_replaced_like_one() -> None:
    plan = make_plan(trace(Fed(nn.LeakyReLU(0.0)), (3, 8, 8)), PlanOptions())
    assert plan.replaced_activations == ("act",)
