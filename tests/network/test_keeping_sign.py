"""Activations whose sign is that of their input keep it, trained and packed alike."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm.layers.activations as timm_activations
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import irbin
from irbin import SourceOptions
from irbin.binary.activations import SignKept
from irbin.binary.layers import binary_layers
from irbin.network.keeping_sign import loses_sign
from irbin.network.trace import trace

LOSING = {
    "gelu": nn.GELU(),
    "gelu tanh": nn.GELU("tanh"),
    "silu": nn.SiLU(),
    "silu in place": nn.SiLU(inplace=True),
    "mish": nn.Mish(),
    "hardswish": nn.Hardswish(),
    "softshrink": nn.Softshrink(),
    "timm swish": timm_activations.Swish(),
    "timm gelu": timm_activations.GELU(),
    "timm quick gelu": timm_activations.QuickGELU(),
    "timm hard mish": timm_activations.HardMish(),
}
OTHERS = [
    nn.ReLU(), nn.ReLU6(), nn.Hardtanh(), nn.Tanh(), nn.ELU(), nn.LeakyReLU(), nn.PReLU(),
    nn.Sigmoid(), nn.Softplus(), nn.LogSigmoid(), nn.Identity(), nn.Dropout(), nn.Flatten(0),
    nn.Softmax(0), nn.LayerNorm(222), nn.MaxPool2d(2), nn.GLU(0), nn.BatchNorm2d(3),
]  # fmt: skip


@pytest.mark.parametrize("module", LOSING.values(), ids=LOSING)
def test_what_rounds_to_zero_below_zero_is_found_by_running(module: nn.Module) -> None:
    assert loses_sign(module)


@pytest.mark.parametrize("module", OTHERS, ids=lambda m: type(m).__name__)
def test_nothing_else_is(module: nn.Module) -> None:
    assert not loses_sign(module)


class Net(nn.Module):
    """stem → act → more → body → head."""

    def __init__(self, act: nn.Module, more: nn.Module | None = None) -> None:
        super().__init__()
        self.stem, self.norm, self.act = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), act
        self.more, self.body = more or nn.Dropout(0.1), nn.Conv2d(8, 8, 3, padding=1)
        self.norm2, self.head = nn.BatchNorm2d(8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(self.more(self.act(self.norm(self.stem(x)))))
        return self.head(self.norm2(y).mean((2, 3)))


def converted(net: nn.Module, **options: object) -> irbin.network.network.Network:
    torch.manual_seed(0)
    return irbin.convert(net, source_options=SourceOptions(input_size=(3, 8, 8)), **options)


@pytest.mark.parametrize("act", LOSING.values(), ids=LOSING)
def test_a_binary_layer_sees_the_sign_in_front_of_the_activation(
    act: nn.Module, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = converted(Net(act))
    module, seen = network.module.eval(), {}
    hooks = [
        module.norm.register_forward_hook(lambda _, args, out: seen.update(before=out.clone())),
        module.body.register_forward_pre_hook(lambda _, args: seen.update(behind=args[0])),
    ]
    x = 60 * torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = module(x)
    assert float(seen["before"].min()) < -100
    assert torch.equal(seen["behind"] < 0, seen["before"] < 0)
    for hook in hooks:
        hook.remove()
    irbin.export(network, tmp_path / "packed")
    packed = irbin.load(tmp_path / "packed")
    torch.testing.assert_close(packed(x), wanted, rtol=1e-4, atol=1e-5)
    names = [node.op for node in packed.program.nodes]
    assert names[:4] == ["aten.conv2d.default", "aten.mul.Tensor", "aten.add.Tensor", "bitpack"]


def test_what_also_others_read_is_computed_and_pooled_signs_agree(tmp_path: Path) -> None:
    network = converted(Net(nn.GELU(), nn.AvgPool2d(2)))
    assert isinstance(network.module.act, SignKept)
    irbin.export(network, tmp_path / "packed")
    x = 60 * torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    packed = irbin.load(tmp_path / "packed")
    assert "aten.gelu.default" in [node.op for node in packed.program.nodes]
    with torch.no_grad():
        torch.testing.assert_close(packed(x), network.module.eval()(x), rtol=1e-4, atol=1e-5)


def test_weights_alone_need_no_sign_and_norms_make_their_own() -> None:
    assert not isinstance(converted(Net(nn.GELU()), bits="1w32a").module.act, SignKept)
    assert not isinstance(converted(Net(nn.GELU(), nn.BatchNorm2d(8))).module.act, SignKept)


def test_the_state_keeps_its_names() -> None:
    net = Net(nn.SiLU())
    names = set(net.state_dict())
    assert set(converted(net).module.state_dict()) == names | {"ede.t", "ede.k"}


class Called(Net):
    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm(self.stem(x)))
        y = F.gelu(self.norm2(self.body(y)), approximate="tanh")
        return self.head(self.more(y).mean((2, 3)))


def test_functions_are_named_and_kept_where_the_forward_is_rewritten() -> None:
    class Two(Called):
        def __init__(self) -> None:
            super().__init__(nn.Identity())
            self.last = nn.Conv2d(8, 8, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = F.relu(self.norm(self.stem(x)))
            y = F.gelu(self.norm2(self.body(y)), approximate="tanh")
            return self.head(self.norm(self.last(y)).mean((2, 3)))

    layers = {layer.name: layer for layer in trace(Two(), (3, 8, 8)).layers}
    assert layers["last"].signs_of_inputs == ("gelu()",)
    module = converted(Two()).module
    kept = [m for m in module.modules() if isinstance(m, SignKept)]
    assert [(type(m.activation), m.activation.approximate) for m in kept] == [(nn.GELU, "tanh")]
    assert set(binary_layers(module)) == {"body", "last"}
