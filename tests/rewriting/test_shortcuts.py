"""A shortcut round every binary convolution, against networks written by hand."""

from __future__ import annotations

import copy
from collections import Counter

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irbin.errors import ConvertError
from irbin.planning.plan import make_plan
from irbin.records.options import Preprocessing, SourceRecord
from irbin.records.plan import PlanOptions
from irbin.rewriting.network import Network
from irbin.rewriting.rewrite import rewrite
from irbin.rewriting.shortcuts import ChannelBypass
from irbin.sources.paper import build_paper
from irbin.tracing.trace import trace

SOURCE = SourceRecord("x", "module:x:y", 10, Preprocessing())


def bireal(module: nn.Module, size: tuple[int, int, int] = (3, 16, 16), **options) -> nn.Module:
    plan = make_plan(trace(module, size), PlanOptions(shortcut="bireal", **options))
    return rewrite(Network(module, SOURCE), plan).module


def image(n: int, size: tuple[int, int, int] = (3, 16, 16)) -> Tensor:
    return torch.randn(n, *size, generator=torch.Generator().manual_seed(5))


class Stages(nn.Module):
    """A stem, `body` between two layers that stay float, and a head."""

    def __init__(self, body: nn.Module, channels: int) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.body, self.head = body, nn.Linear(channels, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.norm(self.stem(x))).mean((2, 3)))


def bireal_resnet20(module: nn.Module, x: Tensor) -> Tensor:
    """The paper's forward pass, y = hardtanh(BN(conv(x)) + shortcut(x)) for every convolution."""
    x = F.hardtanh(module.bn1(module.conv1(x)))
    for stage in (module.layer1, module.layer2, module.layer3):
        for block in stage:
            bypass = x
            if block.conv1.stride == (2, 2):  # option A
                more = block.conv1.out_channels - block.conv1.in_channels
                bypass = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, more // 2, more // 2))
            x = F.hardtanh(block.bn1(block.conv1(x)) + bypass)
            x = F.hardtanh(block.bn2(block.conv2(x)) + x)
    x = module.bn2(x.mean((2, 3)))
    return module.linear(x)


@pytest.mark.slow
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_paper_resnet20_becomes_the_authors_bireal_network(training: bool) -> None:
    torch.manual_seed(0)
    module = bireal(build_paper("resnet20"), (3, 32, 32), activation="hardtanh").train(training)
    for m in module.modules():  # running statistics that make a difference
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.normal_(), m.running_var.uniform_(0.5, 2.0)
    assert Counter(module.irbin_shortcuts.values()) == {"the block's own bypass": 9, "identity": 9}
    twin, x = copy.deepcopy(module), image(4, (3, 32, 32))
    expected, got = bireal_resnet20(twin, x), module(x)
    torch.testing.assert_close(got, expected)
    expected.square().sum().backward()
    got.square().sum().backward()
    for (name, a), (_, b) in zip(module.named_parameters(), twin.named_parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.slow
def test_a_downsample_moves_to_the_first_convolution_of_its_block() -> None:
    torch.manual_seed(0)
    module = bireal(timm.create_model("test_resnet"), (3, 32, 32)).eval()
    block = module.layer2[0]
    into: list[Tensor] = []
    for layer in (block.conv1, module.layer3[0].conv1):
        layer.register_forward_pre_hook(lambda m, args: into.append(args[0].clone()))
    with torch.no_grad():
        module(image(2, (3, 32, 32)))
        y = F.hardtanh(block.bn1(block.conv1(into[0])) + block.downsample(into[0]))
        y = F.hardtanh(block.bn2(block.conv2(y)) + y)
    torch.testing.assert_close(into[1], y)
    assert module.irbin_shortcuts["layer2.0.conv1"] == "the block's own bypass"


def test_a_plain_convolution_gets_an_identity_behind_its_norm() -> None:
    body = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
    module = bireal(Stages(nn.Sequential(*body, nn.Conv2d(8, 8, 1)), 8)).eval()
    conv, norm, act, last = module.body
    x = module.norm(module.stem(image(2)))
    y = act(norm(conv(x)) + x)
    expected = module.head((last(y) + y).mean((2, 3)))
    torch.testing.assert_close(module(image(2)), expected)
    assert module.irbin_shortcuts == {"body.0": "identity", "body.3": "identity"}


def test_a_norm_behind_pooling_is_where_the_sum_goes() -> None:
    body = nn.Sequential(
        nn.Conv2d(8, 16, 3, padding=1), nn.MaxPool2d(2), nn.BatchNorm2d(16), nn.ReLU()
    )
    module = bireal(Stages(body, 16)).eval()
    x = module.norm(module.stem(image(2)))
    bypass = F.pad(F.avg_pool2d(x, 2), (0, 0, 0, 0, 4, 4))
    y = F.relu(body[2].eval()(body[1](module.body[0](x))) + bypass)
    torch.testing.assert_close(module(image(2)), module.head(y.mean((2, 3))))
    note = "average pool 2×2, 8 channels padded to 16"
    assert module.irbin_shortcuts == {"body.0": note}


def test_a_norm_that_carries_its_activation_is_opened() -> None:
    norm = timm.layers.BatchNormAct2d(8)
    body = nn.Sequential(nn.Conv2d(8, 8, 1), norm, nn.Conv2d(8, 8, 1))
    module = bireal(Stages(body, 8)).eval()
    x = module.norm(module.stem(image(2)))
    bn = module.body[1]
    assert isinstance(bn.act, nn.Identity)
    y = F.hardtanh(F.batch_norm(module.body[0](x), bn.running_mean, bn.running_var) + x)
    torch.testing.assert_close(
        module(image(2)), module.head((module.body[2](y) + y).mean((2, 3))), rtol=1e-4, atol=1e-4
    )


def test_what_has_a_shortcut_already_gets_no_second_one() -> None:
    class Bypassed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.norm(self.conv(x))

    source = Stages(Bypassed(), 8)
    module = bireal(source).eval()
    plain = make_plan(trace(source, (3, 16, 16)), PlanOptions())
    without = rewrite(Network(source, SOURCE), plan=plain).module.eval()
    assert module.irbin_shortcuts == {"body.conv": "the network's own"}
    torch.testing.assert_close(module(image(2)), without(image(2)))


@pytest.mark.slow
def test_a_binary_downsample_is_a_shortcut_itself() -> None:
    module = bireal(build_paper("resnet18"), (3, 16, 16), binarize=("*.shortcut.0",))
    assert module.irbin_shortcuts["layer2.0.shortcut.0"] == "it is a shortcut itself"
    assert module.irbin_shortcuts["layer2.0.conv1"] == "the block's own bypass"


@pytest.mark.slow
def test_a_bottleneck_keeps_its_residual_and_says_what_each_convolution_has() -> None:
    module = bireal(timm.create_model("test_resnet"), (3, 32, 32))
    notes = module.irbin_shortcuts
    assert notes["layer1.0.conv1"] == "the block's own bypass"
    assert notes["layer3.0.conv1"] == "identity"
    assert notes["layer3.0.conv3"] == "48 channels padded to 192"
    assert not any(note.startswith("none") for note in notes.values())


def test_a_convolution_without_a_fitting_shortcut_says_why() -> None:
    body = nn.Sequential(
        nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 6, 1), nn.Conv2d(6, 6, 1)
    )
    module = bireal(Stages(body, 6))
    assert module.irbin_shortcuts == {
        "body.0": "none: no whole stride takes 16×16 to 14×14",
        "body.2": "none: 8 channels cannot be averaged into 6",
        "body.3": "identity",
    }


def test_shortcuts_nowhere_is_an_error() -> None:
    with pytest.raises(ConvertError, match=r"none of 1 binary convolutions .*`body`: no whole str"):
        bireal(Stages(nn.Conv2d(8, 8, 3), 8))
    flat = nn.Sequential(nn.Flatten(), nn.Linear(768, 8), nn.Linear(8, 8), nn.Linear(8, 2))
    with pytest.raises(ConvertError, match="but only linear layers are binary"):
        bireal(flat)


@pytest.mark.slow
def test_shortcuts_add_no_parameters_and_no_keys() -> None:
    source = build_paper("vgg-small")
    module = bireal(source, (3, 32, 32))
    assert set(module.state_dict()) == set(source.state_dict()) | {"ede.t", "ede.k"}


BYPASSES = {
    "identity": (8, 8, (1, 1), 7, (8, 7)),
    "pool": (8, 8, (2, 2), 7, (8, 4)),
    "pad-odd": (3, 6, (1, 1), 4, (6, 4)),
    "average": (8, 2, (1, 1), 4, (2, 4)),
    "both": (4, 8, (2, 2), 8, (8, 4)),
}


@pytest.mark.parametrize(
    ("into", "out", "stride", "size", "expected"), BYPASSES.values(), ids=BYPASSES
)
def test_channel_bypass_keeps_means(into, out, stride, size, expected) -> None:
    x = torch.ones(2, into, size, size)
    y = ChannelBypass(into, out, stride)(x)
    assert y.shape == (2, expected[0], expected[1], expected[1])
    assert y.sum((1, 2, 3)).tolist() == [min(into, out) * expected[1] ** 2] * 2


def test_channel_bypass_averages_neighbors() -> None:
    x = torch.arange(8.0).view(1, 8, 1, 1)
    assert ChannelBypass(8, 2, (1, 1))(x).flatten().tolist() == [1.5, 5.5]
