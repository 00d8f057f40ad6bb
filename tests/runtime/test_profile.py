import pytest
import torch
import torch.nn.functional as F
from torch import nn

from irbin.artifact.read import Artifact
from irbin.artifact.schema import Manifest
from irbin.binary.anneal import EdePhase
from irbin.binary.layers import BinaryConv2d, BinaryLinear, Method
from irbin.kernels import native
from irbin.program.lower import lower
from irbin.records.bench import TorchWork
from irbin.records.options import Preprocessing, SourceRecord
from irbin.records.plan import Plan, PlanOptions
from irbin.runtime.loading import load
from irbin.runtime.model import PackedModel
from irbin.runtime.profile import overhead, profile

MANIFEST = Manifest(
    "0",
    "float32",
    SourceRecord("s", "timm:s", 2, Preprocessing((3, 16, 16))),
    Plan(PlanOptions(), (), (3, 16, 16), 0, 0, 0),
)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        conv = nn.Conv2d(16, 16, 3, padding=1, bias=False, groups=2)
        self.block = BinaryConv2d.from_float(conv, Method(), EdePhase())
        self.norm = nn.BatchNorm2d(16)
        self.large = nn.Conv2d(16, 8, 7, padding=3, bias=False, groups=2)  # torch's
        self.fc = BinaryLinear.from_float(nn.Linear(8, 6), Method(), EdePhase())
        self.head = nn.Linear(6, 5)

    def forward(self, x):
        x = F.max_pool2d(self.stem(x), 2)
        x = F.hardtanh(self.norm(self.block(x)))
        return self.head(self.fc(self.large(x).mean((2, 3))))


@pytest.fixture(scope="module")
def model():
    lowered = lower(Net().eval(), (3, 16, 16))
    return PackedModel(Artifact("", MANIFEST, lowered.program, lowered.tensors))


@pytest.mark.slow
def test_multiply_adds_of_bytes_are_counted_as_such(model):
    pixels = torch.zeros(2, 16, 16, 3, dtype=torch.uint8)
    nodes = {node.layer: node for node in profile(model, pixels, 1)}
    stem = nodes["stem"]
    assert (stem.float_macs, stem.byte_macs) == (0, 16 * 16 * 16 * 3 * 9)
    assert stem.kernel == "conv2d of bytes + max_pool2d"
    assert sum(node.byte_macs for node in nodes.values()) == stem.byte_macs
    assert overhead(model, pixels, 1) > 0


@pytest.mark.slow
def test_every_multiply_add_is_counted_where_it_is_computed(model):
    nodes = {node.layer: node for node in profile(model, torch.randn(2, 3, 16, 16), 1)}
    assert nodes["stem"].float_macs == 16 * 16 * 16 * 3 * 9
    assert nodes["block"].binary_macs == 8 * 8 * 16 * (16 // 2) * 9
    assert nodes["large"].float_macs == 8 * 8 * 8 * (16 // 2) * 49
    assert nodes["fc"].binary_macs == 6 * 8
    assert nodes["head"].float_macs == 5 * 6
    counted = {"stem", "block", "large", "fc", "head"}
    assert all(n.binary_macs + n.float_macs == 0 for k, n in nodes.items() if k not in counted)


@pytest.mark.slow
def test_layers_of_unpacked_weights_have_their_names_and_multiply_adds():
    method = Method(binary_activations=False)
    conv = nn.Conv2d(3, 8, 3, groups=1)
    net = nn.Sequential(BinaryConv2d.from_float(conv, method, EdePhase()))
    lowered = lower(net, (3, 16, 16))
    model = PackedModel(Artifact("", MANIFEST, lowered.program, lowered.tensors))
    (node,) = (n for n in profile(model, torch.randn(1, 3, 16, 16), 1) if n.layer == "0")
    n_macs = 14 * 14 * 8 * 3 * 9
    if native.is_fast_at_floats():
        assert (node.float_macs, node.byte_macs, node.sign_macs) == (0, 0, n_macs)
        assert node.kernel == "conv2d of signs"
        assert node.macs_of_floats == n_macs / 4
    else:
        assert (node.float_macs, node.sign_macs) == (n_macs, 0)


def test_names_say_who_computes_and_what_is_fused(model):
    nodes = {node.layer: node for node in profile(model, torch.randn(1, 3, 16, 16), 1)}
    assert nodes["stem"].kernel == "conv2d + max_pool2d"
    assert nodes["stem"].steps == ("pack",)
    assert nodes["block"].kernel == "bconv2d"
    assert nodes["block"].steps == ("multiply", "add", "clamp")
    assert nodes["large"].kernel == "torch conv2d"
    assert nodes["fc"].kernel == "bgemm"


def test_a_look_at_what_lies_there_is_nobodys_work():
    class Flat(nn.Module):
        def forward(self, x):
            return x.flatten(1).log_softmax(1)

    lowered = lower(Flat().eval(), (3, 4, 4))
    model = PackedModel(Artifact("", MANIFEST, lowered.program, lowered.tensors))
    kernels = {node.kernel for node in profile(model, torch.randn(2, 3, 4, 4), 1)}
    assert "torch log_softmax" in kernels
    assert {k for k in kernels if k.startswith("torch ")} == {"torch log_softmax"}
    assert model.torch_work == TorchWork({"log_softmax": 1}, 1)


@pytest.mark.skipif(not native.is_fast_at_floats(), reason="torch computes floats here")
def test_what_torch_computes_is_counted(model):
    names = [n.kernel for n in profile(model, torch.randn(1, 3, 16, 16), 1) if n.is_torch]
    assert names == ["torch conv2d"]
    assert model.torch_work.operators == {"conv2d": 1}
    zoo = load("zoo:resnet20-cifar10-1w1a")
    assert zoo.torch_work.operators == {}
    as_bytes = zoo.torch_work_on(torch.zeros(2, 32, 32, 3, dtype=torch.uint8))
    assert as_bytes.operators == {}
    assert as_bytes.n_calls == zoo.torch_work_on(torch.zeros(2, 3, 32, 32)).n_calls > 0


def test_nodes_come_in_the_order_they_run_and_take_time(model):
    nodes = profile(model, torch.randn(1, 3, 16, 16), 2)
    order = [n.layer for n in nodes if n.layer in ("stem", "block", "large", "fc", "head")]
    assert order == ["stem", "block", "large", "fc", "head"]
    assert all(node.median_us > 0 for node in nodes)


def test_overhead_calls_every_kernel_and_computes_nothing(model):
    before = sum(native.n_calls().values())
    seconds = model.calling_seconds(torch.randn(1, 3, 16, 16), 3)
    n_kernels = sum(
        hasattr(item, "root") or item.op == "bitpack"  # a pass of its own
        for item in model.items
    )
    assert sum(native.n_calls().values()) - before == 5 * n_kernels
    assert len(seconds) == 3
    assert overhead(model, torch.randn(1, 3, 16, 16), 3) > 0


def test_a_batch_that_runs_in_parts_is_one_run(model, monkeypatch):
    alone = profile(model, torch.randn(1, 3, 16, 16), 1)
    monkeypatch.setattr(model._engine, "chunk", 1)
    assert [n.layer for n in profile(model, torch.randn(3, 3, 16, 16), 1)] == [
        n.layer for n in alone
    ]
