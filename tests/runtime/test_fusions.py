"""Fused = unfused, exactly: the output, and every value that both compute.

The plain program, run node by node, is the definition. Every combination of passes, on every
implementation that this processor runs, must give its bits, on the first call (results apart) and
on later ones (results in shared memory).
"""

from __future__ import annotations

from functools import cache
from itertools import combinations
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._pytree import tree_leaves

from irbin.artifact.read import Artifact
from irbin.artifact.schema import Manifest
from irbin.binary.activations import RPReLU, SignKept
from irbin.binary.anneal import EdePhase
from irbin.binary.layers import BinaryConv2d, BinaryLinear, Method
from irbin.kernels import native
from irbin.program.fuse import FUSIONS
from irbin.program.fused import Fused, Kind, StepKind, results
from irbin.program.lower import lower
from irbin.records.options import Preprocessing, SourceRecord
from irbin.records.plan import Plan, PlanOptions
from irbin.runtime.model import PackedModel
from irbin.sources.paper import PadShortcut

MANIFEST = Manifest(
    "0",
    "float32",
    SourceRecord("s", "timm:s", 2, Preprocessing()),
    Plan(PlanOptions(), (), (3, 8, 8), 0, 0, 0),
)
SUBSETS = [kept for n in range(len(FUSIONS) + 1) for kept in combinations(FUSIONS, n)]
IMPLEMENTATIONS = [one.name for one in native.implementations() if one.supported]


def binary(layer: nn.Module, **settings) -> nn.Module:
    kind = BinaryConv2d if isinstance(layer, nn.Conv2d) else BinaryLinear
    return kind.from_float(layer, Method(**settings), EdePhase())


def conv3(n_in: int, n_out: int, stride: int = 1, bias: bool = False, **settings) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, 3, stride, padding=1, bias=bias, **settings)


def norm(n: int, kind=nn.BatchNorm2d) -> nn.Module:
    """As after training: statistics of sums of signs, factors of both signs."""
    made = kind(n)
    nn.init.normal_(made.running_mean, std=3)
    nn.init.uniform_(made.running_var, 0.5, 30)
    nn.init.normal_(made.weight)
    nn.init.normal_(made.bias)
    return made


class Activated(nn.Module):
    """act(norm(body(x)) + shortcut(x)): a block of Bi-Real Net."""

    def __init__(self, body, act, shortcut=None):
        super().__init__()
        n_out = body.out_channels
        self.body, self.norm, self.act = body, norm(n_out), act
        self.shortcut = shortcut or nn.Identity()

    def forward(self, x):
        return self.act(self.norm(self.body(x)) + self.shortcut(x))


class Head(nn.Module):
    def __init__(self, n_in):
        super().__init__()
        self.norm, self.linear = norm(n_in, nn.BatchNorm1d), nn.Linear(n_in, 5)

    def forward(self, x):
        return self.linear(self.norm(x.mean((2, 3))))


def residual() -> nn.Module:
    """12 channels, so that bytes have tails."""
    return nn.Sequential(
        conv3(3, 12),
        norm(12),
        nn.ReLU(),
        Activated(binary(conv3(12, 12)), nn.ReLU()),
        Activated(binary(conv3(12, 12)), nn.Hardtanh()),
        Activated(binary(conv3(12, 12)), nn.Hardtanh()),
        Head(12),
    )


def prelus() -> nn.Module:
    """Slopes per channel and one for all, in front of the sum and behind it; a negative slope."""

    class Block(nn.Module):
        def __init__(self, n_slopes):
            super().__init__()
            self.conv, self.norm = binary(conv3(12, 12, bias=True)), norm(12)
            self.prelu, self.after = nn.PReLU(n_slopes), nn.PReLU(12)
            nn.init.normal_(self.prelu.weight)
            nn.init.uniform_(self.after.weight)

        def forward(self, x):
            return self.after(x + self.prelu(self.norm(self.conv(x))))

    return nn.Sequential(conv3(3, 12, bias=True), norm(12), Block(1), Block(12), Head(12))


def rprelu(n: int) -> RPReLU:
    """As after training: offsets and slopes of both signs, and zeros of both."""
    act = RPReLU(n, 0.25)
    for parameter in act.parameters():
        nn.init.normal_(parameter)
    with torch.no_grad():
        act.weight[:2] = torch.tensor([0.0, -0.0])
        act.in_offset[1:3], act.out_offset[2:4] = -0.0, 0.0
    return act


def learned(layer: nn.Module) -> nn.Module:
    """A binary layer with thresholds as after training; some are zero."""
    made = binary(layer, learned_threshold=True)
    nn.init.normal_(made.threshold)
    with torch.no_grad():
        made.threshold[:2] = torch.tensor([0.0, -0.0])
    return made


def react() -> nn.Module:
    """ReActNet's block: floats for the sum behind, moved signs; pooled shortcuts; whole blocks."""
    pooled = nn.Sequential(
        nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False),
        nn.Conv2d(12, 32, 1, bias=False),
        norm(32),
    )
    zero = norm(32)
    with torch.no_grad():
        zero.weight[:4], zero.bias[:2] = 0.0, -0.0  # ties: the sum behind it is the shortcut
    blocks = [
        Activated(learned(conv3(12, 12)), rprelu(12)),
        Activated(learned(conv3(12, 32, 2)), rprelu(32), pooled),
        Activated(learned(conv3(32, 32)), rprelu(32)),
        Activated(learned(conv3(32, 32, groups=2)), nn.Hardtanh()),
    ]
    blocks[2].norm = zero
    return nn.Sequential(conv3(3, 12), norm(12), rprelu(12), *blocks, Head(32))


class Ties(nn.Module):
    """Whole numbers that meet their thresholds exactly, in floats and in signs alone."""

    def __init__(self):
        super().__init__()
        self.stem = binary(conv3(3, 16))
        self.a, self.b, self.c = (learned(conv3(16, 16)) for _ in range(3))
        self.act = rprelu(16)
        with torch.no_grad():
            for layer in (self.a, self.b, self.c):
                layer.threshold.copy_(torch.randint(-3, 4, (16,)))
            self.act.in_offset.copy_(torch.randint(-3, 4, (16,)))
            self.act.out_offset.zero_()
            self.act.weight.copy_(torch.randint(-1, 2, (16,)))

    def forward(self, x):
        x = self.stem(x)
        y = self.b(self.a(x)) + x
        return (self.c(self.act(y)) + y).flatten(1)


def moved_signs() -> nn.Module:
    """Signs alone between the layers: thresholds are part of the comparison; slopes both ways."""
    positive = rprelu(24)
    with torch.no_grad():
        positive.weight.abs_()
    return nn.Sequential(
        conv3(3, 16),
        norm(16),
        rprelu(16),
        learned(conv3(16, 16)),
        nn.MaxPool2d(2),
        norm(16),
        rprelu(16),
        learned(conv3(16, 24, bias=True)),
        norm(24),
        positive,
        learned(conv3(24, 10)),
        norm(10),
        nn.Hardtanh(),
        nn.Flatten(),
        learned(nn.Linear(160, 9)),
        norm(9, nn.BatchNorm1d),
        rprelu(9),
        learned(nn.Linear(9, 7)),
        norm(7, nn.BatchNorm1d),
        rprelu(7),
        nn.Linear(7, 5),
    )


class MovedTokens(nn.Module):
    """Thresholds along the last axis, beside floats that are added and behind layer norms."""

    def __init__(self):
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, 12, 2, 2), nn.LayerNorm(12)
        self.first, self.second = learned(nn.Linear(12, 12)), learned(nn.Linear(12, 12))
        self.third, self.head = learned(nn.Linear(12, 12)), nn.Linear(12, 5)
        self.act = rprelu(16)  # tokens are the second axis

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = x + self.first(self.norm(x))
        x = F.hardtanh(self.second(x) + x)
        x = self.act(self.third(x) + x)
        return self.head(x.mean(1))


def vgg() -> nn.Module:
    """conv → pool → norm → act, as in VGG-Small; signs alone are read between the layers."""
    act = nn.Hardtanh()
    return nn.Sequential(
        conv3(3, 16),
        norm(16),
        act,
        binary(conv3(16, 16)),
        nn.MaxPool2d(2),
        norm(16),
        act,
        binary(conv3(16, 24, bias=True)),
        norm(24),
        act,
        binary(conv3(24, 10)),
        nn.MaxPool2d(3, 1, 1),
        norm(10),
        act,
        nn.Flatten(),
        binary(nn.Linear(160, 9)),
        norm(9, nn.BatchNorm1d),
        act,
        binary(nn.Linear(9, 7)),
        norm(7, nn.BatchNorm1d),
        act,
        nn.Linear(7, 5),
    )


def pooled_stem() -> nn.Module:
    """ImageNet's stem; the pooling makes its convolution's rows itself."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 7, 2, 3, bias=False),
        norm(8),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
        Activated(binary(conv3(8, 8)), nn.Hardtanh()),
        Activated(binary(conv3(8, 8)), nn.Identity()),
        nn.MaxPool2d(2),
        nn.ReLU(),
        Head(8),
    )


def grouped() -> nn.Module:
    """Groups that end on bytes, groups that do not, and depthwise; a stride, a dilation."""
    act = nn.Hardtanh()
    return nn.Sequential(
        conv3(3, 16),
        norm(16),
        act,
        Activated(binary(conv3(16, 16, groups=2)), act),
        binary(conv3(16, 12, groups=4)),
        norm(12),
        act,
        Activated(binary(conv3(12, 12, groups=12)), act),
        binary(nn.Conv2d(12, 8, 3, (2, 1), padding=(0, 2), dilation=(1, 2))),
        norm(8),
        act,
        binary(nn.Conv2d(8, 6, (2, 3), groups=2)),
        Head(6),
    )


class Neighbors(nn.Module):
    """An added shortcut to fewer channels, as a mean of neighbors; one that others read apart."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = binary(conv3(3, 24)), binary(conv3(24, 8))
        self.norm = norm(8)

    def forward(self, x):
        x = F.hardtanh(self.first(x))
        apart = x.reshape(x.shape[0], 12, 2, *x.shape[2:])
        y = F.hardtanh(self.norm(self.second(x)) + x.reshape(-1, 8, 3, *x.shape[2:]).mean(2))
        return torch.cat((y, apart.mean(2) + apart[:, :, 0]), 1)


class Resized(nn.Module):
    """Feature maps enlarged between binary layers: bilinear, and each pixel repeated."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (binary(conv3(n, 8)) for n in (3, 8, 8))
        self.norm = norm(8)

    def forward(self, x):
        x = F.interpolate(self.first(x), scale_factor=2, mode="bilinear")
        y = self.second(F.hardtanh(self.norm(x)))
        return self.third(F.interpolate(y, scale_factor=2, mode="nearest")) + F.interpolate(
            x, size=(32, 32), mode="bilinear", align_corners=True
        )


def shortcuts() -> nn.Module:
    """Strides with a pooled 1×1 shortcut that stays float, with one of stride 2, and with pads."""
    pooled = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(8, 16, 1, bias=False), norm(16))
    strided = nn.Sequential(nn.Conv2d(16, 20, 1, 2, bias=False), norm(20))
    act = nn.Hardtanh()
    return nn.Sequential(
        conv3(3, 8),
        norm(8),
        act,
        Activated(binary(conv3(8, 16, 2)), act, pooled),
        Activated(binary(conv3(16, 20, 2)), act, strided),
        Activated(binary(conv3(20, 26, 2)), act, PadShortcut(20, 26, 2)),
        Head(26),
    )


class Tokens(nn.Module):
    """A small vision transformer with binary linear layers: channels are the last axis."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 12, 2, 2)
        self.place = nn.Parameter(torch.randn(1, 17, 12))
        self.first = nn.Parameter(torch.randn(1, 1, 12))
        self.norms = nn.ModuleList(nn.LayerNorm(12) for _ in range(3))
        self.qkv, self.mix = binary(nn.Linear(12, 36)), binary(nn.Linear(12, 12))
        self.up, self.down = binary(nn.Linear(12, 20)), binary(nn.Linear(20, 12, bias=False))
        self.factor, self.head = nn.Parameter(torch.randn(12)), nn.Linear(12, 5)

    def forward(self, x):
        n = x.shape[0]
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.first.expand(n, -1, -1), x), 1) + self.place
        q, k, v = self.qkv(self.norms[0](x)).reshape(n, 17, 3, 2, 6).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, 17, 12)
        x = x + self.mix(y) * self.factor
        x = x + self.down(F.gelu(self.up(self.norms[1](x)))) * self.factor
        return self.head(self.norms[2](x)[:, 0])


def float_scales() -> nn.Module:
    """The plain binarizer keeps its scale as floats; 1w32a keeps the activations."""
    return nn.Sequential(
        conv3(3, 12),
        norm(12),
        nn.Hardtanh(),
        Activated(binary(conv3(12, 12, bias=True), binarizer="plain"), nn.Hardtanh()),
        binary(conv3(12, 8, bias=True), binary_activations=False),
        norm(8),
        nn.ReLU(),
        binary(conv3(8, 8, groups=2), binarizer="plain", binary_activations=False),
        nn.ReLU6(),
        nn.Flatten(),
        binary(nn.Linear(512, 9), binarizer="plain"),
        nn.LeakyReLU(0.3),
        binary(nn.Linear(9, 5), binary_activations=False),
    )


class Views(nn.Module):
    """Parts of early results that torch reads last, long after the kernels have."""

    def __init__(self):
        super().__init__()
        self.stem = conv3(3, 16)
        self.convs = nn.ModuleList(binary(conv3(16, 16)) for _ in range(4))
        self.norms = nn.ModuleList(norm(16) for _ in range(4))

    def forward(self, x):
        x = F.relu(self.stem(x))
        part, turned = x[:, ::2, 1:], x.permute(0, 2, 3, 1)
        flat, (low, high) = x.flatten(2).transpose(1, 2), x.split(8, 1)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.hardtanh(norm(conv(x)) + x)
        seen = (x, part, high + low, turned)
        return torch.cat((*(one.flatten(1) for one in seen), flat.amax(2)), 1)


class Sums(nn.Module):
    """A tensor added twice, one that the kernel reads as well, more sums than one kernel takes."""

    def __init__(self):
        super().__init__()
        self.stem, self.point = conv3(3, 36), nn.Conv2d(36, 36, 1)
        self.a, self.b = binary(conv3(36, 36)), binary(conv3(36, 36))

    def forward(self, x):
        x = F.relu(self.stem(x))
        x = (self.point(x) + x) * 0.5  # every channel of a pixel reads all of x there
        y = F.hardtanh(self.a(x) * 0.1 + x + x)
        z = (F.max_pool2d(y, 3, 1, 1) + y - 0.25) * 2  # windows reach over
        y = self.b(z) + z + x + y + z + x  # five
        return F.hardtanh(y).mean((2, 3))


class OtherAxes(nn.Module):
    """Linear layers on the last of four axes, beside kernels whose channels are the second."""

    def __init__(self):
        super().__init__()
        self.stem, self.conv = conv3(3, 8), binary(conv3(8, 8))
        self.linear, self.last = binary(nn.Linear(8, 8)), binary(nn.Linear(8, 8))
        self.float_conv = conv3(8, 6)
        self.factor, self.offset = nn.Parameter(torch.randn(8, 1, 1)), nn.Parameter(torch.randn(8))

    def forward(self, x):
        x = F.hardtanh(self.stem(x))
        y = self.conv(x) + self.linear(x)
        y = F.relu(y * self.factor) * self.offset + self.offset
        y = F.max_pool2d(self.last(y), 2) + F.hardtanh(F.avg_pool2d(y, 2) * self.factor)
        y = F.hardtanh(y[..., [0, 1, 3, 2]] * self.factor) * self.offset[:4] + self.offset[:4]
        return self.float_conv(self.linear(F.pad(y, (2, 2)))).flatten(1)


class Stages(nn.Module):
    """What a kernel begins with comes from torch, in whatever order its pixels lie in memory."""

    def __init__(self):
        super().__init__()
        self.norm, self.late, self.conv = norm(3), norm(12), binary(conv3(12, 12))
        self.group = nn.GroupNorm(2, 12)

    def forward(self, x):
        y = F.relu(self.norm(F.avg_pool2d(x, 2)))
        y = torch.cat((y, F.max_pool2d(x, 2), y.flip(3), x[:, :, ::2, ::2]), 1)
        y = self.conv(F.hardtanh(self.late(torch.roll(y, 1, 1)))) + y
        return self.group(F.max_pool2d(F.relu(torch.sin(y) * 3), 2)).mean((2, 3))


def returned(kind: str) -> nn.Module:
    class Returned(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = binary(conv3(3, 4))

        def forward(self, x):
            if kind == "image":
                return x
            y = F.relu(self.conv(x))
            return y if kind == "result" else y.permute(0, 2, 3, 1)[:, 1:]

    return Returned()


class Several(nn.Module):
    """A kernel's floats that the next one packs, adds or pools; views; one of them twice."""

    def __init__(self):
        super().__init__()
        self.stem, self.norms = conv3(3, 16), nn.ModuleList(norm(16) for _ in range(4))
        self.convs = nn.ModuleList(binary(conv3(16, 16)) for _ in range(3))

    def forward(self, x):
        stem = F.relu(self.norms[0](self.stem(x)))
        raw = self.convs[0](stem)  # what would become a step, a threshold and bits behind it
        early = F.hardtanh(self.norms[1](raw))
        pooled = F.max_pool2d(early, 2)
        middle = self.norms[2](self.convs[1](pooled)) + pooled
        late = F.hardtanh(self.norms[3](self.convs[2](F.hardtanh(middle))))
        views = early.permute(0, 2, 3, 1), late[:, 1:3], late.flatten(1)
        return [early, {"stem": stem, "raw": raw}, (pooled, middle, late), *views, early]


class Odd(nn.Module):
    """Outputs that nothing computes, beside one that is computed: no batch is run in parts."""

    def __init__(self):
        super().__init__()
        self.table, self.conv = nn.Parameter(torch.randn(4, 2)), binary(conv3(3, 8))

    def forward(self, x):
        return x, self.table, self.conv(x), x[:, 1:], self.table * 2, x


class Windows(nn.Module):
    """Convolutions, a pooling and steps on windows of the images: a batch of 4·N."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = conv3(3, 16), norm(16)
        self.first, self.second = binary(conv3(16, 16)), binary(conv3(16, 16))
        self.between, self.pooled = norm(16), conv3(16, 8)
        self.pool, self.head = nn.MaxPool2d(2), nn.Linear(8, 5)

    def forward(self, x):
        x = self.norm(self.stem(x))
        x = x.view(x.shape[0], 16, 2, 4, 2, 4).permute(0, 2, 4, 1, 3, 5).reshape(-1, 16, 4, 4)
        x = self.second(F.hardtanh(self.between(self.first(x)) + x))
        x = self.pool(self.pooled(x)).mean((2, 3))
        return self.head(x).view(-1, 4, 5).sum(1)


class Squeezed(nn.Module):
    """Depthwise and grouped convolutions, a scale an image, joined channels, sizes rounded up."""

    def __init__(self):
        super().__init__()
        self.stem, self.depth = conv3(3, 12), conv3(12, 12, groups=12)
        self.norms = nn.ModuleList(norm(12) for _ in range(2))
        self.squeeze, self.excite = nn.Conv2d(12, 4, 1), nn.Conv2d(4, 12, 1)
        self.grouped, self.body = conv3(12, 16, groups=2), binary(conv3(12, 12))
        self.joined, self.fourths = binary(conv3(40, 8)), conv3(8, 12, groups=4)
        self.last, self.head = binary(conv3(12, 8)), Head(8)

    def forward(self, x):
        x = F.hardtanh(self.norms[0](self.depth(self.stem(x))))
        scale = F.hardtanh(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))))
        y = F.hardtanh(self.norms[1](scale * x) + x)
        y = torch.cat((self.grouped(y), y, self.body(y)), 1)
        y = self.joined(F.max_pool2d(y, 3, 2, ceil_mode=True)) + scale[:, 2:10]
        y = F.pad(y[:, :, ::2, 1:3], (1, 0, 0, 1, 0, 0), value=-1.0)
        y = self.last(self.fourths(y) - F.adaptive_avg_pool2d(y, 1).repeat(1, 2, 1, 1)[:, :12])
        return self.head(F.adaptive_avg_pool2d(y, (2, 3)))


class Curved(nn.Module):
    """Activations that kernels define: of images, behind every kind, alone, in front of signs."""

    def __init__(self):
        super().__init__()
        self.stem, self.depth = conv3(3, 12), conv3(12, 12, groups=12)
        self.norms = nn.ModuleList(norm(12) for _ in range(5))
        self.squeeze, self.excite = nn.Conv2d(12, 4, 1), nn.Conv2d(4, 12, 1)
        self.bodies = nn.ModuleList(binary(conv3(12, 12)) for _ in range(4))
        self.rows, self.head = binary(nn.Linear(12, 12)), nn.Linear(12, 5)
        self.groups, self.last = nn.GroupNorm(3, 12), nn.LayerNorm(12)
        self.kept = nn.ModuleList(SignKept(act()) for act in (nn.GELU, nn.SiLU, nn.Mish))
        nn.init.normal_(self.groups.weight)
        nn.init.normal_(self.last.bias)

    def forward(self, x):
        x = F.relu(self.groups(self.stem(F.silu(x))))
        y = F.silu(self.norms[0](x)) + x
        y = F.hardswish(self.norms[1](self.depth(y)))
        scale = torch.sigmoid(self.excite(F.gelu(self.squeeze(y.mean((2, 3), keepdim=True)))))
        y = F.elu(y * scale, 0.7)
        y = F.gelu(self.norms[2](self.bodies[0](y)), approximate="tanh") + y
        y = F.tanh(F.max_pool2d(F.silu(self.bodies[1](F.silu(self.bodies[2](y - 0.1)))), 2))
        z = F.hardsigmoid(torch.roll(y, 1, 1)) * 2 - 1
        y = self.bodies[3](z).permute(0, 2, 3, 1)
        y = self.kept[0](self.rows(self.kept[1](F.silu(self.last(y)))))
        y = (self.kept[2](y) + y).transpose(1, 3)
        return self.head(F.tanh(self.norms[3](y)).mean((2, 3)))


class Attends(nn.Module):
    """Attention on parts of one layer and of several, with a mask, with signs and sums behind."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = conv3(3, 12), nn.LayerNorm(12)
        self.all, self.out = binary(nn.Linear(12, 36)), binary(nn.Linear(12, 12))
        self.query, self.both = nn.Linear(12, 12), nn.Conv2d(12, 24, 2, 2)
        self.image, self.body = nn.Conv2d(12, 36, 1), binary(conv3(12, 12))
        self.head = nn.Linear(12, 5)
        self.register_buffer("bias", torch.randn(2, 64, 64))

    def forward(self, x):
        y = self.stem(x)
        x = y.flatten(2).transpose(1, 2)
        q, k, v = self.all(self.norm(x)).unflatten(2, (3, 2, 6)).permute(2, 0, 3, 1, 4).unbind(0)
        z = F.scaled_dot_product_attention(q, k, v, self.bias).transpose(1, 2).flatten(2)
        x = self.out(z) + x
        q = self.query(x).unflatten(2, (3, 4)).transpose(1, 2)
        k, v = self.both(y).flatten(2).unflatten(1, (2, 3, 4)).transpose(3, 4).unbind(1)
        z = F.scaled_dot_product_attention(q, k, v, scale=0.3).permute(0, 2, 1, 3)
        x = z.reshape(-1, 8, 8, 12) + x.unflatten(1, (8, 8))
        q, k, v = self.image(y).flatten(2).unflatten(1, (2, 18)).mT.split(6, 3)
        z = F.scaled_dot_product_attention(q, k, v).mT.reshape(-1, 12, 8, 8)
        return self.head(x.mean((1, 2))), self.body(z) + y


class Parts(nn.Module):
    """Parts of channels, on either axis, and products and differences of tensors alike."""

    def __init__(self):
        super().__init__()
        self.stem, self.depth = conv3(3, 24), nn.Conv2d(8, 8, 3, padding="same", groups=8)
        self.body, self.rows = binary(conv3(8, 8)), binary(nn.Linear(12, 24))
        self.last, self.head = nn.LayerNorm(8), nn.Linear(28, 5)

    def forward(self, x):
        a, b, c = self.stem(x).split([12, 8, 4], 1)
        one, other = F.silu(a).permute(0, 2, 3, 1).chunk(2, -1)
        rows = self.rows(torch.cat([other, one], -1))
        one, other, third = rows.split(8, -1)
        product = torch.tanh(one) * other - third
        y = self.body(self.depth(b)) * product.permute(0, 3, 1, 2)
        images = torch.cat([y, c, y - b], 1)
        tokens = self.last(product.flatten(1, 2))
        first, *_ = tokens.unbind(1)
        means = (images.mean((2, 3)), product.mean((1, 2)))
        far = product.mean((1, 2), keepdim=True).flatten(1)
        return self.head(torch.cat(means, 1)), tokens.mean(1) * first - far


NETWORKS = {
    "attends": Attends,
    "parts": Parts,
    "curved": Curved,
    "squeezed": Squeezed,
    "windows": Windows,
    "residual": residual,
    "prelu": prelus,
    "react": react,
    "ties": Ties,
    "moved signs": moved_signs,
    "moved tokens": MovedTokens,
    "vgg": vgg,
    "pooled stem": pooled_stem,
    "grouped": grouped,
    "shortcuts": shortcuts,
    "tokens": Tokens,
    "float scales": float_scales,
    "views": Views,
    "sums": Sums,
    "other axes": OtherAxes,
    "stages": Stages,
    "an image": lambda: returned("image"),
    "a result": lambda: returned("result"),
    "a view": lambda: returned("view"),
    "several": Several,
    "neighbors": Neighbors,
    "resized": Resized,
    "odd outputs": Odd,
}
SIZE = (3, 8, 8)


@cache
def trained(name: str) -> nn.Module:
    torch.manual_seed(sum(map(ord, name)))
    return NETWORKS[name]().eval()


@cache
def artifact(name: str, size: tuple[int, int, int]) -> Artifact:
    lowered = lower(trained(name), size)
    return Artifact("", MANIFEST, lowered.program, lowered.tensors)


def images(n: int, size=SIZE) -> torch.Tensor:
    return torch.randn(n, *size, generator=torch.Generator().manual_seed(n))


def seen(model: PackedModel, x: torch.Tensor) -> dict[str, list]:
    """Every value that the second call computes, by name, part by part; its result as ``."""
    found: dict[str, list] = {}

    def watch(item, values, _):
        for name in results(item):
            found.setdefault(name, []).append(copied(values[name]))

    first = model(x)
    found[""] = [first, model.watch(x, watch)]
    return found


def copied(value):
    if isinstance(value, list | tuple):
        return [copied(one) for one in value]
    return value.clone() if isinstance(value, torch.Tensor) else value


def same(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.fixture(params=IMPLEMENTATIONS)
def implementation(request):
    with native.using(request.param):
        yield request.param


@cache
def wanted(name: str, n: int, n_threads: int, size=SIZE, float_convs=True) -> dict[str, list]:
    """What the plain program gives, on plain C++."""
    assert torch.get_num_threads() == n_threads
    with native.using("portable" if "portable" in IMPLEMENTATIONS else native.REFERENCE):
        model = PackedModel(artifact(name, size), (), float_convs=float_convs)
        return seen(model, images(n, size))


@pytest.fixture
def small_parts(monkeypatch):
    """So that 17 images are worked through in parts, the last one short."""
    monkeypatch.setattr("irbin.runtime.given.CHUNK_BYTES", 30_000)


def check(name: str, passes, ns, n_threads: int, size=SIZE, float_convs=True) -> None:
    model = PackedModel(artifact(name, size), passes, float_convs=float_convs)
    for n in ns:
        plain = wanted(name, n, n_threads, size, float_convs)
        fused = seen(model, images(n, size))
        different = [key for key in fused if not same(fused[key], plain[key])]
        assert not different, f"{passes}, {n} images"


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_every_combination_of_passes_gives_the_plain_programs_bits(
    name, implementation, small_parts
):
    for passes in SUBSETS:
        is_slow = implementation == native.REFERENCE and passes != FUSIONS
        check(name, passes, (0, 3) if is_slow else (0, 1, 3, 17), 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_where_torch_computes_the_float_convolutions(name, small_parts):
    with native.using(IMPLEMENTATIONS[0]):
        for passes in SUBSETS:
            check(name, passes, (3, 17), 1, float_convs=False)


@pytest.fixture
def two_threads():
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["grouped", "pooled stem"])
def test_threads_share_the_work_and_change_no_bit(name, two_threads):
    """Images large enough for the kernels to split: some millions of products a thread."""
    size = (3, 32, 32)
    for implementation in IMPLEMENTATIONS[:-1]:
        with native.using(implementation):
            for passes in (FUSIONS, ("pool",), ("transform", "pack"), ()):
                check(name, passes, (17,), 2, size)


class Sums2d(nn.Module):
    """Torch sums in the order in which numbers lie in memory: kernels must not change that."""

    def __init__(self):
        super().__init__()
        self.norm, self.group = norm(6), nn.GroupNorm(2, 6)

    def forward(self, x):
        y = F.relu(self.norm(F.avg_pool2d(x, 2)))
        z = self.group(F.max_pool2d(x, 2))
        up = F.interpolate(F.relu(F.avg_pool2d(x, 2) * 1.1 + 0.2), scale_factor=2, mode="bilinear")
        return torch.cat((y.mean((2, 3)), z.mean((2, 3)), up.mean((2, 3))), 1)


@pytest.mark.slow
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_torch_sums_in_the_same_order_behind_a_kernel(layout):
    torch.manual_seed(0)
    lowered = lower(Sums2d().eval(), (6, 34, 34))
    packed = Artifact("", MANIFEST, lowered.program, lowered.tensors)
    x = torch.randn(3, 6, 34, 34)
    plain = PackedModel(packed, ())(x)
    for passes in SUBSETS:
        model = PackedModel(packed, passes)
        for _ in range(2):
            assert torch.equal(model(x.contiguous(memory_format=layout)), plain)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_equals_the_trained_network_within_rounding(name):
    x = images(3)
    for float_convs in (True, False):
        found = PackedModel(artifact(name, SIZE), float_convs=float_convs)(x)
        pairs = list(zip(tree_leaves(found), tree_leaves(trained(name)(x)), strict=True))
        assert all(torch.allclose(one, other, rtol=1e-4, atol=1e-4) for one, other in pairs)


@pytest.mark.parametrize("name", ["several", "odd outputs"])
def test_every_output_is_whole_where_a_batch_could_run_in_parts(name, small_parts):
    found = PackedModel(artifact(name, SIZE))(images(17))
    wanted = tree_leaves(trained(name)(images(17)))
    assert [one.shape for one in found] == [one.shape for one in wanted]
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(found, wanted, strict=True))


@pytest.mark.slow
def test_the_networks_hold_every_kind_of_record():
    items = [
        item
        for name in NETWORKS
        for item in PackedModel(artifact(name, SIZE), float_convs=True).items
        if isinstance(item, Fused)
    ]
    assert {item.kind for item in items} == set(get_args(Kind))
    assert {item.producer and item.producer.kind for item in items if item.kind == "pool"} == {
        None,
        "dot",
        "conv",
        "rows",
    }
    assert {item.root.op for item in items if item.threshold} == {"bconv2d", "bgemm"}
    assert {step.kind for item in items for step in item.steps} == set(get_args(StepKind))
    assert any(step.keeps_sign for item in items for step in item.steps)
    both = {item.kind for item in items if item.floats is not None and item.bits is not None}
    assert {"dot", "conv", "gate", "pool", "rows"} <= both
    assert max(sum(s.kind == "residual" for s in item.steps) for item in items) == 4


@cache
def reference_answers(name: str, n: int) -> list[torch.Tensor]:
    """What the definition gives for the plain program."""
    with native.using(native.REFERENCE):
        return tree_leaves(PackedModel(artifact(name, SIZE), (), float_convs=True)(images(n)))


def one_by_one(model: PackedModel, x: torch.Tensor):
    """Every kernel called alone, where a call runs a segment of them at once."""
    return model.watch(x, lambda *_: None)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=12, deadline=None)
@given(
    passes=st.sampled_from(SUBSETS),
    n=st.sampled_from((1, 2, 7)),
    n_threads=st.sampled_from((1, 2)),
    run=st.sampled_from((PackedModel.__call__, one_by_one)),
    implementation=st.sampled_from(IMPLEMENTATIONS[:-1] or IMPLEMENTATIONS),
)
def test_answers_are_the_references_however_they_are_computed(
    name, passes, n, n_threads, run, implementation
):
    wanted = reference_answers(name, n)
    with pytest.MonkeyPatch.context() as patch, native.using(implementation):
        patch.setattr("irbin.runtime.engine.kernel_threads", lambda: n_threads)
        model = PackedModel(artifact(name, SIZE), passes, float_convs=True)
        for _ in range(2):  # laid out anew after the first run, where torch computes something
            assert all(map(torch.equal, tree_leaves(run(model, images(n))), wanted))
