"""ONNX Runtime gives what `irbin.load` gives: every operator that is written, whole networks."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from irbin.artifact.read import Artifact, read_artifact
from irbin.artifact.schema import Manifest
from irbin.binary.anneal import EdePhase
from irbin.binary.layers import BinaryConv2d, BinaryLinear, Method
from irbin.onnx.model import write_onnx
from irbin.program.lower import lower
from irbin.records.options import Preprocessing, SourceRecord
from irbin.records.plan import Plan, PlanOptions
from irbin.runtime.arrays import as_array
from irbin.runtime.engine import Engine
from irbin.zoo.entries import located

pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

SIZE = (3, 9, 8)


def packed(module: nn.Module, size: tuple[int, int, int] = SIZE) -> Artifact:
    lowered = lower(module.eval(), size)
    source = SourceRecord("s", "timm:s", 2, Preprocessing(input_size=size))
    plan = Plan(PlanOptions(), (), size, 0, 0, 0)
    return Artifact("", Manifest("0", "float32", source, plan), lowered.program, lowered.tensors)


def session(path, optimizes: bool = False):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    level = "ORT_ENABLE_ALL" if optimizes else "ORT_DISABLE_ALL"
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def answers(artifact: Artifact, tmp_path, n: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """What ONNX Runtime and irbin give for n images, result by result."""
    path = tmp_path / "net.onnx"
    if not path.exists():
        write_onnx(artifact, path, spec="net")
    (_, *size) = next(iter(artifact.program.inputs.values())).shape
    x = np.random.default_rng(n).standard_normal((n, *size)).astype(np.float32)
    theirs = session(path).run(None, {next(iter(artifact.program.inputs)): x})
    ours = [as_array(y) for y in Engine(artifact).run(x)]
    assert len(theirs) == len(ours)
    return list(zip(theirs, ours, strict=True))


def binary(layer: nn.Module) -> nn.Module:
    kind = BinaryConv2d if isinstance(layer, nn.Conv2d) else BinaryLinear
    return kind.from_float(layer, Method(), EdePhase())


DEPTHS = (1, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65)
WINDOWS: tuple[dict, ...] = (
    {"kernel_size": 1},
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "padding": 2, "stride": 2},
    {"kernel_size": (1, 4), "padding": (0, 3), "stride": (2, 1)},
    {"kernel_size": (5, 2), "padding": (4, 0), "dilation": (2, 3)},
    {"kernel_size": 3, "padding": 4, "dilation": 4},
    {"kernel_size": (9, 8)},
    {"kernel_size": 2, "stride": (3, 4)},
    {"kernel_size": 3, "padding": "same"},
    {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
    {"kernel_size": 3, "padding": 1, "padding_mode": "replicate"},
)


class Bits(nn.Module):
    """Layers of signs alone, on signs of the image: nothing between is rounded."""

    def __init__(self) -> None:
        super().__init__()
        shapes = zip(DEPTHS, WINDOWS, strict=True)
        self.convs = nn.ModuleList(binary(nn.Conv2d(n, 6, **w)) for n, w in shapes)
        self.grouped = binary(nn.Conv2d(12, 12, 3, padding=1, groups=4, bias=False))
        self.depth = binary(nn.Conv2d(9, 9, 3, padding=1, groups=9, bias=False))
        self.rows = nn.ModuleList(binary(nn.Linear(n, 5)) for n in (7, 8, 72))

    def forward(self, x):
        wide = x.repeat(1, 22, 1, 1) * torch.linspace(-1, 1, 66)[:, None, None]
        results = [conv(wide[:, :n]) for n, conv in zip(DEPTHS, self.convs, strict=True)]
        results += [self.grouped(wide[:, :12]), self.depth(wide[:, :9])]
        rows = (wide[:, 0, :, :7], wide[:, :3], wide[:, 2].flatten(1))
        return (*results, *(layer(row) for layer, row in zip(self.rows, rows, strict=True)))


@pytest.mark.parametrize("n", [1, 2, 5])
def test_layers_of_signs_are_equal_bit_for_bit(artifacts, tmp_path, n: int) -> None:
    for theirs, ours in answers(artifacts(Bits), tmp_path, n):
        assert np.array_equal(theirs, ours)


class Weights(nn.Module):
    """Binary weights before float activations, with a float scale and with a power of two."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = BinaryConv2d.from_float(
            nn.Conv2d(3, 8, 3, padding=1), Method(binary_activations=False), EdePhase()
        )
        self.row = BinaryLinear.from_float(
            nn.Linear(8, 5), Method(binary_activations=False), EdePhase()
        )

    def forward(self, x):
        return self.row(self.conv(x).mean((2, 3)))


@pytest.fixture(scope="module")
def artifacts():
    @cache
    def make(kind: type[nn.Module]) -> Artifact:
        torch.manual_seed(0)
        return packed(kind())

    return make


class Poolings(nn.Module):
    """Windows over floats, padding, sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3, 6, **w) for w in WINDOWS)
        self.up = nn.ConvTranspose2d(3, 4, 3, 2, 1, output_padding=1)

    def forward(self, x):
        results = [conv(x) for conv in self.convs]
        for size, stride, pad in ((2, 2, 0), (3, 2, 1), (3, 3, 1), ((4, 2), (3, 1), (2, 0))):
            for ceil in (False, True):
                results.append(F.max_pool2d(x, size, stride, pad, ceil_mode=ceil))
                for counts in (False, True):
                    results.append(F.avg_pool2d(x, size, stride, pad, ceil, counts))
        results += [F.max_pool2d(x, 3, 1, 1, dilation=2), F.avg_pool1d(x[:, 0], 3, 2)]
        results += [F.adaptive_avg_pool2d(x, s) for s in (1, 3, (4, 3), (9, 8), (2, 5))]
        results += [F.adaptive_avg_pool1d(x[:, 0], 3), F.adaptive_max_pool2d(x, 1)]
        results += [F.adaptive_max_pool2d(x, (3, 4)), self.up(x)]
        results += [F.pad(x, (1, 2, 0, 3)), F.pad(x, (1, 2), value=-1.5), F.pad(x, (-1, 2, 0, -3))]
        results += [F.pad(x, (0, 0, 0, 0, 2, 1)), F.pad(x, (1, 2, 3, 1), mode="reflect")]
        results += [F.pad(x, (1, 2, 3, 1), mode="replicate")]
        for mode in ("nearest", "bilinear", "bicubic"):
            results += [F.interpolate(x, scale_factor=2.0, mode=mode)]
        results += [F.interpolate(x, (14, 5), mode=m) for m in ("nearest", "bilinear", "bicubic")]
        results += [F.interpolate(x, (14, 15), mode="bilinear", align_corners=True)]
        wide = x.repeat(1, 4, 1, 1)
        return (*results, F.pixel_shuffle(wide, 2), F.pixel_unshuffle(x[:, :, :8], 2))


class Numbers(nn.Module):
    """What works on numbers one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.slope, self.one = nn.PReLU(3), nn.PReLU()
        nn.init.normal_(self.slope.weight)

    def forward(self, x):
        y, z = x.flip(3), x.abs() + 0.5
        results = [x + y, x - y, x * y, x / z, 1 - x, torch.sub(x, y, alpha=2), 2 * x, x / 3, -x]
        same = (F.relu, F.relu6, F.silu, F.gelu, F.sigmoid, F.hardswish, F.hardsigmoid, F.elu)
        same += (F.mish, F.softplus, F.hardtanh, F.leaky_relu, F.selu, torch.tanh, torch.erf)
        same += (torch.exp, torch.sin, torch.cos, torch.abs, torch.floor, torch.ceil, torch.sign)
        same += (torch.square, torch.round, self.slope, self.one)
        results += [f(x) for f in same]
        results += [torch.log(z), torch.sqrt(z), torch.rsqrt(z), torch.reciprocal(z), z**1.5]
        results += [2**x, z**y, F.gelu(x, approximate="tanh"), x.clamp(-0.3), x.clamp(max=0.2)]
        results += [torch.maximum(x, y), torch.minimum(x, y), torch.addcmul(x, y, z, value=0.5)]
        results += [
            x.masked_fill(x > y, 3.0),
            torch.where(x <= y, x, z),
            torch.where(x < 0, 0.0, x),
        ]
        results += [torch.div(x, z, rounding_mode="floor"), torch.remainder(x, 0.7)]
        both = torch.logical_or(torch.logical_and(x > 0, y >= 0.1), torch.logical_not(x != y))
        return (*results, both.float(), torch.where(x == y, x, 2.0), F.softplus(x, 2, 1))


class Moves(nn.Module):
    """Numbers moved, and made of nothing."""

    def forward(self, x):
        a, b = x.split((5, 3), 3)
        first, *_ = x.chunk(3, 1)
        n = x.shape[0]
        results = [
            x.flatten(1),
            x.permute(0, 2, 3, 1),
            x.transpose(1, 2),
            x[:, 1],
            x[:, :, ::2, 1:],
        ]
        results += [torch.cat((b, a), 3), first.squeeze(1), x.unsqueeze(2), x.flip((2, 3))]
        results += [torch.stack((x, -x), 1), x.roll((3, -2), (2, 3)), x.repeat(1, 2, 1, 3)]
        results += [x.repeat_interleave(3, 2), x[:, :1].expand(-1, 4, -1, -1), *x.unbind(1)]
        results += [x[:, torch.tensor([2, 0, 0])], x.unfold(2, 4, 3), x.reshape(-1, 9, 8)]
        results += [torch.zeros_like(x) + 1, x.new_zeros(n, 2) + x[:, 0, 0, :2]]
        token = torch.arange(5.0).reshape(1, 1, 5).expand(n, -1, -1)
        results += [torch.cat((token, x[:, 0, :, :5]), 1), F.glu(x, 3), x.double().float()]
        y = x.clone()
        y[:, :, 2:5] = x[:, :, 4:7]
        y[:, :, 8] = 7.0
        return (*results, y)


class Sums(nn.Module):
    """Products, attention, norms, reductions."""

    def __init__(self) -> None:
        super().__init__()
        self.row, self.rows = nn.Linear(8, 6), nn.Linear(24, 5, bias=False)
        self.norms = nn.ModuleList((nn.LayerNorm(8), nn.LayerNorm((9, 8)), nn.GroupNorm(2, 6)))
        self.rms = nn.RMSNorm(8)
        for norm in self.norms:
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)

    def forward(self, x):
        mask = torch.ones(9, 9).tril().bool()
        bias = torch.linspace(-1, 1, 81).reshape(9, 9)
        wide = torch.cat((x, x.flip(2)), 1)
        results = [self.row(x), self.rows(x[:, :, 0].flatten(1)), x @ x.transpose(2, 3)]
        results += [F.scaled_dot_product_attention(x, x.flip(2), x)]
        results += [F.scaled_dot_product_attention(x, x, x, m) for m in (mask, bias)]
        results += [F.scaled_dot_product_attention(x, x, x, is_causal=True, scale=0.3)]
        results += [self.norms[0](x), self.norms[1](x), self.norms[2](wide), self.rms(x)]
        results += [F.layer_norm(x, (8,)), F.group_norm(wide, 3), x.softmax(1), x.log_softmax(-1)]
        results += [x.mean((2, 3)), x.mean(1, keepdim=True), x.sum(2), x.sum((1, 3), keepdim=True)]
        results += [x.amax((2, 3)), x.amin(1), x.max(2).values, x.cumsum(2), x.norm(dim=1)]
        results += [x.std(1), x.var((2, 3), unbiased=False), x.var(1, keepdim=True)]
        results += [*torch.var_mean(x, (1,), correction=1), torch.einsum("bchw,bcgw->bhg", x, x)]
        return (*results, torch.bmm(x[:, 0], x[:, 1].transpose(1, 2)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Weights, Poolings, Numbers, Moves, Sums])
def test_every_result_is_equal_but_for_rounding(artifacts, tmp_path, kind) -> None:
    for n in (1, 2, 5):
        for at, (theirs, ours) in enumerate(answers(artifacts(kind), tmp_path, n)):
            assert theirs.shape == ours.shape, at
            scale = max(1.0, float(np.abs(ours).max()))
            assert np.abs(theirs - ours).max() <= 3e-6 * scale, at


@pytest.mark.parametrize(
    "entry", ["resnet20-cifar10-1w1a", "resnet20-cifar10-1w32a", "resnet20-cifar10-1w1a-paper"]
)
def test_the_zoo_answers_alike_and_stays_small(entry: str, tmp_path) -> None:
    artifact = read_artifact(located(f"zoo:{entry}"))
    for theirs, ours in answers(artifact, tmp_path, 5):
        assert np.abs(theirs - ours).max() <= 1e-5
        assert np.array_equal(theirs.argmax(1), ours.argmax(1))
    assert (tmp_path / "net.onnx").stat().st_size <= 100_000
