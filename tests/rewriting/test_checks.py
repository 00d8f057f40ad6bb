"""The check after the swap finds networks that only look converted."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irbin.binary.layers import binary_layers
from irbin.errors import ConvertError
from irbin.planning.plan import make_plan
from irbin.records.options import Preprocessing, SourceRecord
from irbin.records.plan import Plan, PlanOptions
from irbin.rewriting.checks import check_runs
from irbin.rewriting.network import Network
from irbin.rewriting.rewrite import rewrite
from irbin.tracing.trace import trace

SOURCE = SourceRecord("x", "module:x:y", 10, Preprocessing())


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Linear(4, 2)
        self.norm = nn.BatchNorm2d(4)

    def body(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x)).mean((2, 3)))


def small_plan() -> Plan:
    return make_plan(trace(Small(), (3, 8, 8)), PlanOptions())


def broken(kind: type[Small]) -> nn.Module:
    """A network swapped after a plan that was made for `Small`."""
    module = kind()
    return rewrite(Network(module, SOURCE), small_plan(), in_place=True, check=False).module


def refused(module: nn.Module, match: str) -> None:
    with pytest.raises(ConvertError, match=match):
        check_runs(module, small_plan())


def test_a_good_network_passes_and_is_left_alone() -> None:
    torch.manual_seed(0)
    module = broken(Small).train()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    plan, state = small_plan(), torch.random.get_rng_state()
    check_runs(module, plan)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())
    assert module.conv.weight.grad is None
    assert module.training


def test_a_float_layer_at_a_planned_place_is_found() -> None:
    refused(Small(), "`conv`: planned binary, but the network has a `Conv2d` there")


def test_a_float_layer_kept_in_a_plain_list_is_found() -> None:
    class Listed(Small):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = [self.conv]

        def body(self, x: Tensor) -> Tensor:
            return self.norm(self.hidden[0](x))

    refused(broken(Listed), "`conv`: its weight is still used in float, by `conv2d`")


def test_a_weight_read_directly_is_found() -> None:
    class Direct(Small):
        def body(self, x: Tensor) -> Tensor:
            return self.norm(F.conv2d(x, self.conv.weight))

    refused(broken(Direct), "`conv`: its weight is still used in float, by `conv2d`")


def test_a_layer_that_never_runs_is_found() -> None:
    class Skips(Small):
        def body(self, x: Tensor) -> Tensor:
            return self.norm(x)

    refused(broken(Skips), "`conv`: the binary layer never ran")


def test_an_input_that_is_never_negative_is_found() -> None:
    class Hidden(Small):
        def body(self, x: Tensor) -> Tensor:
            return super().body(x.relu())

    refused(broken(Hidden), r"`conv`: its input was never negative.*`keep=\['conv'\]`")


def test_an_output_that_is_not_finite_is_found() -> None:
    class Infinite(Small):
        def body(self, x: Tensor) -> Tensor:
            return super().body(x) / 0

    refused(broken(Infinite), "gives an output that is not finite")


def test_missing_zero_and_nan_gradients_are_told_apart() -> None:
    class Detached(Small):
        def body(self, x: Tensor) -> Tensor:
            return super().body(x).detach() + x

    class Zero(Small):
        def body(self, x: Tensor) -> Tensor:
            return super().body(x) * 0 + x

    class Undefined(Small):
        def body(self, x: Tensor) -> Tensor:
            y = super().body(x)
            return (y * 0).square().sum().sqrt() + x

    refused(broken(Detached), "`conv`: its latent weight gets no gradient")
    refused(broken(Zero), "`conv`: the gradient of its latent weight is zero everywhere")
    refused(broken(Undefined), "`conv`: the gradient of its latent weight is not finite")


def test_an_expert_that_no_random_image_is_sent_to_is_told_as_one() -> None:
    class Expert(Small):
        def body(self, x: Tensor) -> Tensor:
            gate = (x.amax((1, 2, 3), keepdim=True) > 1e9).float()
            return gate * super().body(x) + x

    told = "on random images: none is sent there (one expert of several), or what follows passes"
    refused(broken(Expert), re.escape(told))


@pytest.mark.parametrize(("offset", "always"), [(100, "never negative"), (-100, "negative")])
def test_an_input_without_zeros_that_never_changes_sign_is_found(offset: int, always: str) -> None:
    class Shifted(Small):
        def body(self, x: Tensor) -> Tensor:
            return super().body(x + offset)

    refused(broken(Shifted), f"`conv`: its input was {always} in a run on random images")


@pytest.mark.parametrize(("sign", "always"), [(1, "never negative"), (-1, "negative")])
def test_an_input_that_has_one_sign_by_chance_is_told_of(sign: int, always: str, caplog) -> None:
    """A maximum of 16 values and more (googlenet's poolings of poolings), which a norm can move."""

    class Pooled(Small):
        def __init__(self) -> None:
            super().__init__()
            self.before = nn.BatchNorm2d(4)

        def body(self, x: Tensor) -> Tensor:
            return super().body(sign * F.max_pool2d(self.before(x), 7, 1, 3))

    torch.manual_seed(0)
    check_runs(broken(Pooled), small_plan())
    (record,) = caplog.records
    assert f"`conv`: its input was {always} in a run on random images" in record.getMessage()


def test_a_network_that_cannot_be_differentiated_is_found() -> None:
    class Overwrites(Small):
        def body(self, x: Tensor) -> Tensor:
            y = super().body(x)
            x += y
            return x

    refused(
        broken(Overwrites),
        "the converted network does not train: `add_` overwrites what a gradient needs",
    )


@pytest.mark.parametrize(
    "error", [MemoryError("big"), RuntimeError("[enforce fail] can't allocate memory: big")]
)
def test_a_lack_of_memory_is_no_fault_of_the_network(error: Exception) -> None:
    class Large(Small):
        def body(self, x: Tensor) -> Tensor:
            raise error

    with pytest.raises(type(error), match="big"):
        check_runs(broken(Large), small_plan())


def test_small_inputs_may_be_non_negative_by_chance() -> None:
    class Tiny(Small):
        def body(self, x: Tensor) -> Tensor:
            return super().body(F.adaptive_avg_pool2d(x, 1).abs())

    check_runs(broken(Tiny), small_plan())


def test_all_binary_layers_share_the_phase_of_the_root() -> None:
    module = broken(Small)
    assert {layer.phase for layer in binary_layers(module).values()} == {module.ede}


class Fixed(Small):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.reshape(2, 3, 8, 8))


class FixedFunctional(Fixed):
    def body(self, x: Tensor) -> Tensor:
        return super().body(F.relu(x))


class Says(Small):
    def forward(self, x: Tensor) -> Tensor:
        if len(x) > 2:
            raise ValueError("no more than two")
        return super().forward(x)


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (Fixed, r"RuntimeError: shape .*invalid for input of size"),
        (FixedFunctional, r"RuntimeError: shape .*invalid for input of size"),
        (Says, "ValueError: no more than two"),
    ],
)
def test_a_network_for_two_images_alone_is_told_so(kind: type[Small], why: str) -> None:
    module = kind()
    plan = make_plan(trace(module, (3, 8, 8)), PlanOptions())
    message = (
        rf"^expected a network for any number of .* on 2 and not on 4: {why}.* \(.*\.py:\d+\)$"
    )
    with pytest.raises(ConvertError, match=message):
        rewrite(Network(module, SOURCE), plan)


def test_a_network_that_is_never_the_same_twice_is_told_so() -> None:
    class AlwaysDrops(Small):
        def body(self, x: Tensor) -> Tensor:
            return super().body(F.relu(F.dropout(x, 0.5, True)))

    module = AlwaysDrops()
    plan = make_plan(trace(module, (3, 8, 8)), PlanOptions())
    message = (
        r"^`AlwaysDrops` never gives the same answer twice .*`F.dropout\(x, p, self.training\)`$"
    )
    with pytest.raises(ConvertError, match=message):
        rewrite(Network(module, SOURCE), plan)
