"""Small random networks, packed against trained: batch norms as no training would leave them.

γ negative, zero and large, variance tiny, odd sizes, one channel and four, shortcuts, groups,
paddings, every kind of scale. Where an answer differs a sign has flipped within rounding of zero.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from timm.layers import GroupNormAct
from torch import Tensor, nn

import irbin
from irbin.binary.layers import binary_layers
from irbin.evaluation.agreement import compare
from irbin.planning.plan import make_plan
from irbin.records.options import Preprocessing, SourceOptions, SourceRecord
from irbin.records.plan import PlanOptions
from irbin.rewriting.network import Network
from irbin.rewriting.rewrite import rewrite
from irbin.tracing.trace import trace

N_NETWORKS = 20


class Block(nn.Module):
    def __init__(self, rng: np.random.Generator, n_in: int, n_out: int) -> None:
        super().__init__()
        kernel, groups = int(rng.choice([1, 2, 3])), int(rng.choice([1, 1, 2]))
        if n_in % groups or n_out % groups or groups == n_in:
            groups = 1
        mode = str(rng.choice(["zeros", "zeros", "reflect", "replicate"]))
        self.conv = nn.Conv2d(
            n_in,
            n_out,
            kernel,
            int(rng.choice([1, 1, 2])),
            kernel // 2,
            groups=groups,
            bias=bool(rng.integers(2)),
            padding_mode=mode,
        )
        self.is_residual = n_in == n_out and kernel != 2 and self.conv.stride == (1, 1)
        self.norm = nn.BatchNorm2d(n_out) if rng.random() < 0.8 else nn.Identity()
        self.act = nn.ReLU() if rng.random() < 0.7 else nn.PReLU(n_out)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.norm(self.conv(x)))
        return y + x if self.is_residual else y


class Small(nn.Module):
    def __init__(self, rng: np.random.Generator, channels: int) -> None:
        super().__init__()
        widths = [int(rng.choice([1, 4, 5, 8, 31, 33, 65])) for _ in range(4)]
        self.stem, self.norm = (
            nn.Conv2d(channels, widths[0], 3, padding=1),
            nn.BatchNorm2d(widths[0]),
        )
        self.body = nn.Sequential(*(Block(rng, *pair) for pair in pairwise(widths)))
        self.middle = nn.Linear(widths[-1], 9, bool(rng.integers(2)))
        self.head = nn.Linear(9, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.middle(self.body(self.norm(self.stem(x))).mean((2, 3))))


def spoil(module: nn.Module, rng: np.random.Generator) -> None:
    """Random statistics and affines for every batch norm, in place."""
    for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        n = norm.num_features
        gamma = rng.normal(0, 1, n) * rng.choice([0.0, 1.0, 10.0], n, p=[0.2, 0.6, 0.2])
        variance = rng.choice([1e-12, 1e-4, 1.0, 30.0], n) * rng.random(n)
        with torch.no_grad():
            for tensor, values in (
                (norm.weight, gamma),
                (norm.bias, rng.normal(0, 0.5, n) * rng.integers(0, 2, n)),
                (norm.running_mean, rng.normal(0, 0.5, n) * rng.integers(0, 2, n)),
                (norm.running_var, variance),
            ):
                tensor.copy_(torch.from_numpy(values))


OPTIONS = [
    {},
    {"binarizer": "plain"},
    {"sign_threshold": "learned", "activation": "prelu"},
    {"activation": "rprelu", "balance": "median"},
    {"bits": "1w32a"},
]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(N_NETWORKS))
def test_packed_answers_as_trained(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    channels = int(rng.choice([1, 3, 4]))
    size = (channels, int(rng.choice([7, 9, 12])), int(rng.choice([5, 8, 13])))
    names = ("body.1.conv", "middle")
    options = PlanOptions(binarize=names, **OPTIONS[seed % len(OPTIONS)])
    fed = Preprocessing(size, mean=(0.5,), std=(0.5,))
    source, record = Small(rng, channels), SourceRecord("x", "module:x:y", 5, fed)
    plan = make_plan(trace(source, size), options)
    # unchecked: irbin refuses nets that learn nothing, which these may be, but answers they have
    network = rewrite(Network(source, record), plan, check=False)
    module = network.module.eval()
    spoil(module, rng)
    irbin.export(network, tmp_path / "packed")
    packed = irbin.load(tmp_path / "packed")
    x = torch.randn(24, *size, generator=torch.Generator().manual_seed(seed))
    x *= torch.linspace(0.01, 4, 24).view(-1, 1, 1, 1)
    found = compare(module, packed, [x[:1], x[1:]])
    assert set(names) <= binary_layers(module).keys()
    assert all(layer.largest_flipped < 1e-4 for layer in found.layers)
    n_flipped = sum(layer.n_flipped for layer in found.layers)
    assert n_flipped <= 3
    with torch.no_grad():
        largest = float(module(x).abs().max())
    # tiny variances make large answers; one flip moves an answer by what a weight weighs
    assert n_flipped or found.max_difference <= 1e-4 * max(largest, 1)


class _Normalized(nn.Module):
    """timm's blocks of its big-transfer networks: a norm of groups that holds the activation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 16, 3, 2, 1), nn.Linear(16, 5)
        self.norms = nn.ModuleList(GroupNormAct(16, 4, act_layer=nn.GELU) for _ in range(3))
        self.convs = nn.ModuleList(nn.Conv2d(16, 16, 3, padding=1, bias=False) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norms[0](self.stem(x))
        for norm, conv in zip(self.norms[1:], self.convs, strict=True):
            x = x + norm(conv(x))
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize("seed", range(3))
def test_norms_of_groups_that_hold_a_gelu(seed: int, tmp_path: Path) -> None:
    torch.manual_seed(seed)
    module = _Normalized()
    for norm in module.norms:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    options = SourceOptions(input_size=(3, 32, 32), mean=(0.5,), std=(0.5,))
    network = irbin.convert(module, source_options=options)
    network.module.train()
    network.module(3 * torch.randn(8, 3, 32, 32)).square().sum().backward()
    torch.optim.SGD(network.module.parameters(), 0.05).step()
    network.module.eval()
    images = torch.randn(40, 3, 32, 32)
    with torch.no_grad():
        trained = network.module(images)
    irbin.export(network, tmp_path / "packed")
    torch.testing.assert_close(
        irbin.load(tmp_path / "packed")(images), trained, atol=1e-3, rtol=1e-3
    )
