"""Layer facts without a network, as a small residual network has them."""

from __future__ import annotations

import pytest

from irbin.analysis.choices import Choices, choices
from irbin.records.analysis import LayerAnalysis
from irbin.records.plan import LayerGraph, LayerRecord, PlanOptions


def layer(name: str, channels: int, **facts: object) -> LayerRecord:
    return LayerRecord(
        name,
        "conv2d",
        "Conv2d",
        (channels, channels, 3, 3),
        1,
        False,
        channels**2 * 900,
        (channels, 10, 10),
        (channels, 10, 10),
        activations=(f"act{channels}",),
        **facts,
    )  # type: ignore[arg-type]


@pytest.fixture
def graph() -> LayerGraph:
    layers = (
        layer("stem", 16, is_first=True),
        layer("a.0.conv1", 16),
        layer("a.0.conv2", 16),
        layer("a.1.conv1", 16),
        layer("b.0.conv1", 32),
        layer("b.0.conv2", 32),
        layer("fc", 10, is_last=True),
    )
    return LayerGraph(layers, (16, 10, 10), 100, 400, 100, {"act16": 16, "act32": 32, "act10": 10})


@pytest.fixture
def space(graph: LayerGraph) -> Choices:
    return choices(graph, PlanOptions(), "layer")


def found(name: str, increase: float, n_bytes: int = 1000, us: float = 10) -> LayerAnalysis:
    return LayerAnalysis(name, (name,), 1 + increase, 50, increase, 0.01, n_bytes, us / 1e6)
