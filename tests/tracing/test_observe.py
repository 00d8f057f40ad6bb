"""What runs show of a layer's input."""

from __future__ import annotations

import copy
import logging
from contextlib import nullcontext

import pytest
import torch
from timm.layers import GroupNorm1, GroupNormAct
from torch import Tensor, nn

from irbin.binary.anneal import EdePhase
from irbin.binary.layers import BinaryConv2d, BinaryLinear, Method
from irbin.errors import ConvertError
from irbin.tracing.observe import SignCount, check_signs, counting_signs, observe


def always(*inputs: Tensor) -> str:
    count = SignCount()
    for x in inputs:
        count.add(x)
    return count.always


def test_one_sign_in_all_of_many_inputs_is_no_chance() -> None:
    x = torch.linspace(-1, 1, 1000)
    assert always(x.relu()) == "never negative"
    assert always(x.relu() + 0.1) == "never negative"  # no zeros: softplus, or a pooled ReLU
    assert always(x.sigmoid().log()) == "negative"
    assert always(x) == ""
    assert always(x.relu(), -x.relu() - 1) == ""


def test_few_inputs_prove_nothing_but_gather_over_calls() -> None:
    x = torch.ones(255)
    assert always(x) == ""
    assert always(x, x[:1]) == "never negative"
    assert always() == ""


@pytest.mark.parametrize("value", [-1e-30, float("-inf")])
def test_one_negative_value_is_enough(value: float) -> None:
    x = torch.zeros(1000)
    x[17] = value
    assert always(x) == ""


def test_minus_zero_and_nan_are_not_negative() -> None:
    x = torch.zeros(1000)
    x[:2] = torch.tensor([-0.0, float("nan")])
    assert always(x) == "never negative"


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.rectified = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
        self.constant = nn.Linear(2, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.rectified(self.stem(x).relu_())
        return x.mean((2, 3)) + self.constant(torch.ones(2))


def test_observing_tells_rectified_and_constant_inputs_and_leaves_the_network_alone() -> None:
    torch.manual_seed(0)
    network = Network().train()
    seen = observe(network, ["stem", "rectified", "constant"], (3, 16, 16))
    assert {n for n, o in seen.items() if o.signs.always} == {"rectified"}
    assert {n for n, o in seen.items() if o.is_constant} == {"constant"}
    assert network.training
    assert not network.stem._forward_pre_hooks
    assert observe(network, [], (3, 16, 16)) == {}


class Normed(nn.Module):
    """A group norm between a stem and a layer.

    Args:
        norm: of 16 channels.
        size: height and width that it sees; the mean over the image where 1.
        factor: of what it sees.
    """

    def __init__(self, norm: nn.Module, size: int, factor: float) -> None:
        super().__init__()
        self.stem, self.norm, self.layer = nn.Conv2d(3, 16, 3), norm, nn.Conv2d(16, 4, 1)
        self.size, self.factor = size, factor

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.adaptive_avg_pool2d(self.stem(x), 1).expand(-1, -1, self.size, self.size)
        return self.layer(self.norm(self.factor * x)).mean((2, 3))


@pytest.mark.parametrize("factor", [1.0, 30.0, 1e5])
@pytest.mark.parametrize("eps", [1e-3, 1e-5, 1e-12])
@pytest.mark.parametrize("norm", [nn.GroupNorm, GroupNorm1, GroupNormAct])
@pytest.mark.parametrize("size", [1, 3])
def test_a_group_norm_of_equal_numbers_is_its_bias_whatever_they_are(
    norm, eps: float, factor: float, size: int
) -> None:
    """torch leaves x/√eps of rounding there, which looked like something of the image."""
    torch.manual_seed(0)
    each = norm(16, eps=eps) if norm is GroupNorm1 else norm(16, 16, eps=eps)
    seen = observe(Normed(each, size, factor), ["layer"], (3, 8, 8))["layer"]
    assert seen.is_constant == (norm is not GroupNorm1)  # whose one group has unequal channels
    assert seen.signs.n_negative > 0 or norm is GroupNormAct  # which rectifies


def test_a_group_norm_of_several_unequal_numbers_depends_on_the_image() -> None:
    torch.manual_seed(0)
    halves = observe(Normed(nn.GroupNorm(8, 16), 1, 1e5), ["layer"], (3, 8, 8))["layer"]
    assert not halves.is_constant


def test_layers_of_few_inputs_are_watched_for_longer() -> None:
    class Pooled(Network):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.stem, self.rectified = nn.Conv2d(3, channels, 1), nn.Linear(channels, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.rectified(self.stem(x).relu().mean((2, 3)))

    torch.manual_seed(0)
    counts = {c: observe(Pooled(c), ["rectified"], (3, 4, 4))["rectified"] for c in (7, 8, 64, 65)}
    assert {c: o.signs.n_signs for c, o in counts.items()} == {7: 224, 8: 256, 64: 256, 65: 260}
    assert [o.signs.always for o in counts.values()] == ["", *["never negative"] * 3]
    assert not any(o.is_constant for o in counts.values())


def binary(method: Method | None = None) -> nn.Module:
    layer = BinaryLinear.from_float(nn.Linear(64, 3), method or Method(), EdePhase())
    return nn.Sequential(layer)


def counted(x: Tensor):
    network = binary()
    with counting_signs(network) as counts:
        network(x)
    assert not network[0]._forward_pre_hooks
    return counts


def test_signs_are_counted_over_all_calls() -> None:
    x = torch.ones(4, 64)
    x[0, :7] = -1
    assert (counted(x)["0"].n_signs, counted(x)["0"].n_negative) == (256, 7)


def test_signs_are_those_behind_learned_thresholds() -> None:
    network = binary(Method(learned_threshold=True))
    with torch.no_grad():
        network[0].threshold[:3] = torch.tensor([1.5, 1.0, -9.0])
    with counting_signs(network) as counts:
        network(torch.ones(4, 64))
    assert (counts["0"].n_signs, counts["0"].n_negative) == (256, 4)


def test_layers_with_float_activations_are_not_counted() -> None:
    network = binary(Method(binary_activations=False))
    with counting_signs(network) as counts:
        network(torch.ones(1, 64))
    assert counts == {}


@pytest.mark.parametrize(
    ("x", "always"), [(torch.zeros(4, 64), "never negative"), (-torch.ones(4, 64), "negative")]
)
def test_one_sign_alone_is_refused(x: Tensor, always: str) -> None:
    message = (
        f"^`0`: on 4 calibration images its input was {always}, so its output does not depend on "
        r"it; keep it float with `keep=\['0'\]`$"
    )
    with pytest.raises(ConvertError, match=message):
        check_signs(binary(), counted(x), 4, x)


def test_too_few_signs_prove_nothing() -> None:
    x = torch.ones(3, 64)
    check_signs(binary(), counted(x), 3, x)


def test_a_sign_that_hardly_ever_changes_is_warned_of(caplog) -> None:
    x = torch.ones(40, 64)
    x[0, 0] = -1
    with caplog.at_level(logging.WARNING, "irbin"):
        check_signs(binary(), counted(x), 40, x)
    assert caplog.messages == [
        "`0`: only 0.039 % of its input on 40 calibration images has the other sign, so it learns "
        "little; consider `keep=['0']`"
    ]
    caplog.clear()
    x[0, :3] = -1
    check_signs(binary(), counted(x), 40, x)
    assert caplog.messages == []


@pytest.mark.parametrize("n_images", [2, 3, 30])
@pytest.mark.parametrize(
    ("act", "is_refused"), [(nn.Identity(), False), (nn.Softplus(), True)], ids=["norm", "softplus"]
)
def test_one_sign_that_a_norm_can_move_is_not_refused_however_few_images(
    act, is_refused: bool, n_images: int, caplog
) -> None:
    """A maximum of 225 values is never negative here, until the norm's offset makes it so."""
    torch.manual_seed(0)
    layer = BinaryConv2d.from_float(nn.Conv2d(3, 2, 1), Method(), EdePhase())
    pooled = nn.MaxPool2d(15, 1, 7)
    network, x = (
        nn.Sequential(nn.BatchNorm2d(3), act, pooled, layer),
        torch.randn(n_images, 3, 9, 9),
    )
    network.eval()
    with counting_signs(network) as counts:
        network(x)
    before = copy.deepcopy(network.state_dict())
    said = f"`3`: on {n_images} calibration images its input was never negative"
    with pytest.raises(ConvertError, match=said) if is_refused else nullcontext():
        check_signs(network, counts, n_images, x)
    told = (
        []
        if is_refused
        else [
            f"`3`: nothing of its input on {n_images} calibration images has the other sign, so it "
            "learns little until training moves that; consider `keep=['3']`"
        ]
    )
    assert caplog.messages == told
    assert all(torch.equal(t, before[n]) for n, t in network.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
