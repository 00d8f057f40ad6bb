"""Average pooling in place of strides on shortcuts, against networks written by hand."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from irbin.binary.layers import BinaryConv2d
from irbin.errors import ConvertError
from irbin.planning.plan import make_plan
from irbin.records.options import Preprocessing, SourceRecord
from irbin.records.plan import PlanOptions
from irbin.rewriting.downsample import average_downsamples
from irbin.rewriting.network import Network
from irbin.rewriting.rewrite import rewrite
from irbin.sources.paper import PadShortcut, build_paper
from irbin.tracing.trace import trace, trace_graph

SOURCE = SourceRecord("x", "module:x:y", 10, Preprocessing())
SIZE = (3, 16, 16)


def converted(module: nn.Module, size: tuple[int, int, int] = SIZE, **options) -> nn.Module:
    plan = make_plan(trace(module, size), PlanOptions(downsample="avgpool", **options))
    return rewrite(Network(module, SOURCE), plan).module


def image(n: int = 2, size: tuple[int, int, int] = SIZE) -> Tensor:
    return torch.randn(n, *size, generator=torch.Generator().manual_seed(5))


class Block(nn.Module):
    """stem, then `main` and a shortcut that starts beside it; a head."""

    def __init__(self, shortcut: nn.Module, stride=2, channels: int = 8, padding: int = 1) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.main = nn.Sequential(
            nn.Conv2d(8, channels, 3, stride, padding), nn.BatchNorm2d(channels)
        )
        self.shortcut, self.head = shortcut, nn.Linear(channels, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x))
        return self.head((self.main(x) + self.shortcut(x)).mean((2, 3)))


class Sliced(nn.Module):
    """A shortcut that is an index."""

    def __init__(self, *index) -> None:
        super().__init__()
        self.index = index

    def forward(self, x: Tensor) -> Tensor:
        return x[self.index]


ALL, SECOND = slice(None), slice(None, None, 2)


def pooled(x: Tensor, stride: tuple[int, int] = (2, 2)) -> Tensor:
    """Every window's mean, the last ones over what is there; in plain loops."""
    down, right = stride
    rows = [
        torch.stack(
            [
                x[:, :, i : i + down, j : j + right].mean((2, 3))
                for j in range(0, x.shape[3], right)
            ],
            -1,
        )
        for i in range(0, x.shape[2], down)
    ]
    return torch.stack(rows, 2)


def edited(block: nn.Module, size: tuple[int, int, int] = SIZE) -> tuple[nn.Module, dict[str, str]]:
    """A copy's graph with its strides replaced, nothing binary."""
    traced = trace_graph(copy.deepcopy(block).eval(), size)
    notes = average_downsamples(traced)
    Shapes(traced).run(image(2, size))
    return traced, notes


class Shapes(fx.Interpreter):
    """Every node has the shape that its notes say: what edits the graph next reads them."""

    def run_node(self, n: fx.Node):
        result = super().run_node(n)
        if isinstance(result, Tensor) and n.op != "get_attr":
            assert n.meta["shape"] == tuple(result.shape), n
        return result


@pytest.mark.parametrize("size", [(3, 16, 16), (3, 15, 13), (3, 1, 2), (3, 3, 1)], ids=str)
@pytest.mark.parametrize("stride", [(2, 2), (2, 1), (3, 2)], ids=str)
@pytest.mark.parametrize("padding", [0, "valid"])
def test_a_strided_1x1_convolution_pools_first(size, stride, padding) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 12, 1, stride, padding=padding, bias=False)
    block = Block(nn.Sequential(conv, nn.BatchNorm2d(12)), stride, 12).eval()
    traced, notes = edited(block, size)
    assert notes == {"shortcut.0": f"average pool {stride[0]}×{stride[1]}"}
    x = block.norm(block.stem(image(2, size)))
    bypass = block.shortcut[1](F.conv2d(pooled(x, stride), conv.weight))
    expected = block.head((block.main(x) + bypass).mean((2, 3)))
    torch.testing.assert_close(traced(image(2, size)), expected)
    assert conv.stride == stride  # the given network stays
    assert traced.get_submodule("shortcut.0").stride == (1, 1)


SLICES = {
    "all four axes": ((ALL, ALL, SECOND, SECOND), (2, 2)),
    "an ellipsis": ((..., SECOND, SECOND), (2, 2)),
    "from zero": ((ALL, ALL, slice(0, None, 2), slice(0, None, 2)), (2, 2)),
    "of rows": ((ALL, ALL, SECOND, ALL), (2, 1)),
    "of columns by three": ((ALL, ALL, slice(None, None, 1), slice(None, None, 3)), (1, 3)),
}


@pytest.mark.parametrize(("index", "stride"), SLICES.values(), ids=SLICES)
@pytest.mark.parametrize("size", [(3, 16, 16), (3, 15, 13), (3, 1, 2)], ids=str)
def test_a_strided_slice_becomes_the_pooling(index, stride, size) -> None:
    torch.manual_seed(0)
    block = Block(Sliced(*index), stride).eval()
    traced, notes = edited(block, size)
    assert notes == {"shortcut": f"average pool {stride[0]}×{stride[1]}"}
    x = block.norm(block.stem(image(2, size)))
    expected = block.head((block.main(x) + pooled(x, stride)).mean((2, 3)))
    torch.testing.assert_close(traced(image(2, size)), expected)


class Twice(nn.Module):
    """One shortcut for two blocks of other sizes, called by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.a, self.b = (nn.Conv2d(8, 8, 3, 2, padding=1) for _ in range(2))
        self.shortcut, self.head = nn.Conv2d(8, 8, 1, 2), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.shortcut(input=x) + self.a(x)
        x = self.b(x) + self.shortcut(x)
        return self.head(x.mean((2, 3)))


def test_a_shortcut_that_is_called_twice_pools_twice() -> None:
    torch.manual_seed(0)
    network = Twice().eval()
    traced, notes = edited(network)
    assert notes == {"shortcut": "average pool 2×2"}
    x = network.stem(image())
    for main in (network.a, network.b):
        bypass = F.conv2d(pooled(x), network.shortcut.weight, network.shortcut.bias)
        x = main(x) + bypass
    torch.testing.assert_close(traced(image()), network.head(x.mean((2, 3))))


class AlsoMain(Twice):
    """The shortcut's convolution is no shortcut where it is called a second time."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.a(x) + self.shortcut(x)
        return self.head(self.shortcut(self.b(x)).mean((2, 3)))


class TwoBranches(Twice):
    """A slice that is added to what comes from elsewhere."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x[:, :1].expand(-1, 8, -1, -1)) + self.stem(x)[:, :, ::2, ::2]
        return self.head(x.mean((2, 3)))


UNTOUCHED = {
    "two branches": TwoBranches,
    "no stride": lambda: Block(nn.Conv2d(8, 8, 1), 1),
    "no shortcut": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1, 2), nn.Flatten(), nn.Linear(8 * 49, 4)
    ),
    "larger window": lambda: Block(nn.Conv2d(8, 8, 3, 2, padding=1)),
    "padded 1x1": lambda: Block(nn.Conv2d(8, 8, 1, 2, padding=1), padding=2),
    "pooled already": lambda: Block(nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(8, 8, 1))),
    "channels skipped": lambda: Block(Sliced(ALL, SECOND, SECOND, SECOND), 2, 4),
    "shifted slice": lambda: Block(Sliced(ALL, ALL, slice(1, None, 2), slice(1, None, 2))),
    "cropped slice": lambda: Block(Sliced(ALL, ALL, slice(0, 15, 2), slice(0, 15, 2))),
    "shared with the trunk": AlsoMain,
}


@pytest.mark.parametrize("build", UNTOUCHED.values(), ids=UNTOUCHED)
def test_without_a_strided_shortcut_it_is_an_error(build) -> None:
    torch.manual_seed(0)
    traced = trace_graph(build().eval(), SIZE)
    with pytest.raises(ConvertError) as raised:
        average_downsamples(traced)
    assert str(raised.value) == (
        '`downsample="avgpool"`: expected a shortcut with a stride, a 1×1 convolution or a slice, '
        "but the network has none; use `downsample='keep'`"
    )


def test_a_step_that_is_computed_is_left_alone() -> None:
    class Computed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, :, :: x.shape[1] // 4, :: x.shape[1] // 4]

    traced = trace_graph(Block(Computed()).eval(), SIZE)
    with pytest.raises(ConvertError, match="the network has none"):
        average_downsamples(traced)


@pytest.mark.slow
@pytest.mark.parametrize("shortcut", ["none", "bireal"])
def test_resnet20_averages_in_front_of_the_padded_channels(shortcut: str) -> None:
    torch.manual_seed(0)
    module = converted(build_paper("resnet20"), (3, 32, 32), shortcut=shortcut).eval()
    notes = module.irbin_shortcuts
    assert notes["layer2.0.shortcut"] == notes["layer3.0.shortcut"] == "average pool 2×2"
    assert len(notes) == 2 + (18 if shortcut == "bireal" else 0)

    def block(block: nn.Module, x: Tensor) -> Tensor:
        bypass = x
        if isinstance(block.shortcut, PadShortcut):
            more = block.shortcut.before
            bypass = F.pad(F.avg_pool2d(x, 2), (0, 0, 0, 0, more, more))
        if shortcut == "bireal":
            x = F.hardtanh(block.bn1(block.conv1(x)) + bypass)
            return F.hardtanh(block.bn2(block.conv2(x)) + x)
        x = block.bn2(block.conv2(F.hardtanh(block.bn1(block.conv1(x)))))
        return F.hardtanh(x + bypass)

    x = F.hardtanh(module.bn1(module.conv1(image(2, (3, 32, 32)))))
    for stage in (module.layer1, module.layer2, module.layer3):
        for one in stage:
            x = block(one, x)
    expected = module.linear(module.bn2(x.mean((2, 3))))
    torch.testing.assert_close(module(image(2, (3, 32, 32))), expected)


@pytest.mark.slow
def test_timms_resnets_whose_shortcuts_pool_already() -> None:
    with pytest.raises(ConvertError, match="the network has none"):
        converted(timm.create_model("resnet10t", num_classes=4), (3, 64, 64))


@pytest.mark.slow
def test_timms_resnets() -> None:
    torch.manual_seed(0)
    module = converted(timm.create_model("resnet18", num_classes=4), (3, 64, 64), shortcut="bireal")
    assert [k for k, v in module.irbin_shortcuts.items() if "downsample" in k] == [
        f"layer{i}.0.downsample.0" for i in (2, 3, 4)
    ]
    assert module.layer2[0].downsample[0].stride == (1, 1)
    assert module(image(2, (3, 64, 64))).shape == (2, 4)


def test_a_binary_shortcut_is_pooled_in_front_of_its_sign() -> None:
    torch.manual_seed(0)
    block = Block(nn.Sequential(nn.Conv2d(8, 8, 1, 2, bias=False), nn.BatchNorm2d(8)))
    module = converted(block, binarize=("shortcut.0",)).eval()
    assert isinstance(module.shortcut[0], BinaryConv2d)
    x = module.norm(module.stem(image()))
    bypass = module.shortcut[1](module.shortcut[0](pooled(x)))
    expected = module.head((module.main(x) + bypass).mean((2, 3)))
    torch.testing.assert_close(module(image()), expected)


@pytest.mark.slow
def test_sizes_and_multiply_adds_stay_those_of_the_plan() -> None:
    torch.manual_seed(0)
    source = build_paper("resnet18", num_classes=4)
    plans = [
        make_plan(trace(source, SIZE), PlanOptions(downsample=downsample))
        for downsample in ("keep", "avgpool")
    ]
    assert plans[0].n_macs == plans[1].n_macs
    assert plans[0].packed_bytes() == plans[1].packed_bytes()
    module = rewrite(Network(source, SOURCE), plans[1]).module
    again = trace(module, SIZE)
    macs = {layer.name: layer.n_macs for layer in again.layers}
    assert macs == {d.layer.name: d.layer.n_macs for d in plans[1].decisions}
