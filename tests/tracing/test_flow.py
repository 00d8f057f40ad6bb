"""Places in the data flow, on small networks that are written in another order than they run."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irbin.records.plan import LayerRecord
from irbin.tracing.trace import trace


def facts(network: nn.Module, size: int = 8) -> dict[str, LayerRecord]:
    return {layer.name: layer for layer in trace(network, (3, size, size)).layers}


def marked(network: nn.Module, fact: str) -> set[str]:
    return {name for name, layer in facts(network).items() if getattr(layer, fact)}


class Backwards(nn.Module):
    """Declares its layers in the opposite order."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)
        self.body = nn.Conv2d(4, 4, 3)
        self.stem = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x)).mean((2, 3)))


class Residual(nn.Module):
    """stem → (main ‖ bypass) → head."""

    def __init__(self, main: nn.Module, bypass: nn.Module) -> None:
        super().__init__()
        self.bypass, self.main = bypass, main
        self.stem, self.head = nn.Conv2d(3, 4, 1), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.main(x) + self.bypass(x)
        return self.head(x.mean((2, 3)))


def pointwise() -> nn.Conv2d:
    return nn.Conv2d(4, 4, 1)


def test_first_and_last_follow_the_data_not_the_declaration() -> None:
    assert marked(Backwards(), "is_first") == {"stem"}
    assert marked(Backwards(), "is_last") == {"head"}
    assert list(facts(Backwards())) == ["stem", "body", "head"]


def test_parallel_stems_and_heads_are_all_first_and_all_last() -> None:
    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (nn.Conv2d(3, 4, k, padding=k // 2) for k in (1, 3, 5))
            self.x, self.y = nn.Linear(4, 2), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = F.gelu(self.a(x) + self.b(x) + self.c(x)).mean((2, 3))
            return (self.x(x) + self.y(x)) / 2

    assert marked(Wide(), "is_first") == {"a", "b", "c"}
    assert marked(Wide(), "is_last") == {"x", "y"}


def test_a_functional_classifier_is_the_last_layer() -> None:
    class Cosine(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
            self.prototypes = nn.Parameter(torch.randn(2, 4))

        def forward(self, x: Tensor) -> Tensor:
            x = self.b(F.gelu(self.a(x))).mean((2, 3))
            return x @ F.normalize(self.prototypes).t()

    assert marked(Cosine(), "is_last") == set()


SHORTCUTS = {
    "downsample": (nn.Conv2d(4, 4, 3, padding=1), pointwise(), {"bypass"}),
    "with-norm": (
        nn.Conv2d(4, 4, 3, padding=1),
        nn.Sequential(nn.AvgPool2d(1), pointwise(), nn.BatchNorm2d(4)),
        {"bypass.1"},
    ),
    "bottleneck": (nn.Sequential(pointwise(), nn.GELU(), pointwise()), pointwise(), {"bypass"}),
    "identity": (nn.Conv2d(4, 4, 3, padding=1), nn.Identity(), set()),
    "two-pointwise": (pointwise(), pointwise(), set()),
    "two-long": (
        nn.Sequential(pointwise(), nn.GELU(), pointwise()),
        nn.Sequential(pointwise(), nn.GELU(), pointwise()),
        set(),
    ),
    "3x3-bypass": (
        nn.Sequential(pointwise(), nn.GELU(), pointwise()),
        nn.Conv2d(4, 4, 3, padding=1),
        set(),
    ),
}


@pytest.mark.parametrize(("main", "bypass", "expected"), SHORTCUTS.values(), ids=SHORTCUTS)
def test_shortcuts_are_lone_pointwise_bypasses(main, bypass, expected) -> None:
    assert marked(Residual(main, bypass), "is_shortcut") == expected
    assert {n.replace("main", "bypass") for n in marked(Residual(bypass, main), "is_shortcut")} == (
        expected
    )


def test_three_parallel_pointwise_convolutions_bypass_nothing() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = pointwise(), pointwise()

        def forward(self, x: Tensor) -> Tensor:
            return self.a(x) + self.b(x)

    assert marked(Residual(Sum(), pointwise()), "is_shortcut") == set()


class Gate(nn.Module):
    def __init__(self, pool: nn.Module, kernel_size: int = 1) -> None:
        super().__init__()
        self.pool = pool
        self.reduce = nn.Conv2d(4, 2, 1)
        self.expand = nn.Conv2d(2, 4, kernel_size, padding=kernel_size // 2)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.expand(F.relu(self.reduce(self.pool(x)))))


def gated(gate: nn.Module) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 1), gate, nn.Conv2d(4, 4, 1), nn.Flatten(), nn.Linear(256, 2)
    )


def test_squeeze_excite_layers_are_gates() -> None:
    assert marked(gated(Gate(nn.AdaptiveAvgPool2d(1))), "is_gate") == {"1.reduce", "1.expand"}


def test_linear_squeeze_excite_is_a_gate_through_views_and_expand() -> None:
    class LinearGate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 2), nn.Linear(2, 4)

        def forward(self, x: Tensor) -> Tensor:
            n, c = x.shape[:2]
            y = F.adaptive_avg_pool2d(x, 1).view(n, c)
            y = torch.sigmoid(self.b(F.relu(self.a(y)))).view(n, c, 1, 1)
            return x * y.expand_as(x)

    assert marked(gated(LinearGate()), "is_gate") == {"1.a", "1.b"}


def test_a_spatial_gate_and_the_trunk_are_none() -> None:
    class Spatial(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return x * torch.sigmoid(self.conv(x.mean(1, keepdim=True)))

    assert marked(gated(Spatial()), "is_gate") == set()


def test_followed_by_names_the_first_reader() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.GELU())
    found = facts(network)
    assert (found["0"].followed_by, found["2"].followed_by) == ("BatchNorm2d", "GELU")
