"""Operators under another one's name: the same bits as torch's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from irbin.errors import LowerError
from irbin.program.lower import lower


@pytest.mark.slow
@pytest.mark.parametrize(
    ("act", "op", "settings"),
    [
        (nn.SELU(), "aten.elu.default", (1.6732632423543772, 1.0507009873554805, 1.0)),
        (nn.CELU(0.7), "aten.elu.default", (0.7, 1.0, 1 / 0.7)),
        (nn.CELU(-2.0), "aten.elu.default", (-2.0, 1.0, -0.5)),
        (nn.RReLU(0.1, 0.3), "aten.leaky_relu.default", (0.2,)),
    ],
    ids=["selu", "celu", "celu below zero", "rrelu"],
)
def test_it_computes_the_same(act: nn.Module, op: str, settings: tuple[float, ...]) -> None:
    (node,) = lower(nn.Sequential(act), (2, 3, 3)).program.nodes
    assert (node.op, node.args[1:]) == (op, pytest.approx(settings, rel=1e-15))
    x = torch.cat([torch.logspace(-30, 1, 200), -torch.logspace(-30, 1, 200), torch.zeros(1)])
    function = getattr(torch.ops.aten, op.split(".")[1])
    assert torch.equal(function(x, *node.args[1:]), act.eval()(x.clone()))


@pytest.mark.slow
@pytest.mark.parametrize(
    "act", [nn.Threshold(0.1, -0.5), nn.Threshold(-1.0, 20.0, inplace=True)], ids=["", "in place"]
)
def test_a_threshold_is_a_comparison_and_a_choice(act: nn.Module) -> None:
    _, le, where = lower(nn.Sequential(nn.Hardtanh(-9, 9), act), (2, 3, 3)).program.nodes
    assert (le.op, where.op) == ("aten.le.Scalar", "aten.where.ScalarSelf")
    x = torch.tensor([-2.0, -1.0, -0.0, 0.0, 0.1, 0.2, float("nan"), float("inf")])
    chosen = torch.where(torch.ops.aten.le.Scalar(x, le.args[1]), where.args[1], x)
    assert torch.equal(chosen.view(torch.int32), act(x.clone()).view(torch.int32))


@pytest.mark.slow
def test_random_slopes_stay_refused() -> None:
    class Always(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.rrelu(x, 0.1, 0.3, True)

    with pytest.raises(LowerError, match="draws random numbers in evaluation mode"):
        lower(Always(), (2, 3, 3))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
def test_padding_by_name_is_padding_in_numbers() -> None:
    """Where it is the same on both sides; then the convolution may be a kernel of ours."""
    layers = (
        nn.Conv2d(2, 3, (3, 5), dilation=(2, 1), padding="same"),
        nn.Conv2d(3, 3, 3, 2, padding="valid"),
        nn.Conv2d(3, 3, 2, dilation=3, padding="same"),
    )
    nodes = [n for n in lower(nn.Sequential(*layers), (2, 9, 9)).program.nodes if "conv" in n.op]
    assert [(node.op, node.args[4]) for node in nodes] == [
        ("aten.conv2d.default", (2, 2)),
        ("aten.conv2d.default", (0, 0)),
        ("aten.conv2d.padding", "same"),
    ]
    for layer, node in zip(layers[:2], nodes, strict=False):
        x = torch.randn(2, layer.in_channels, 9, 9)
        assert torch.equal(F.conv2d(x, layer.weight, layer.bias, *node.args[3:]), layer(x))
