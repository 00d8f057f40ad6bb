"""Numbers that a forward reads from its modules, found in the graph that tracing froze."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from irbin.tracing.numbers import read_when_run
from irbin.tracing.trace import trace_graph


class Part(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tau, self.heads, self.times = 1.5, 2, 3

    def forward(self, x: Tensor) -> Tensor:
        n, c = x.shape[0], x.shape[1]
        y = x.reshape(n, self.heads, c // self.heads, -1) * self.tau
        y = y.reshape(x.shape) * self.times
        return y + (1 - self.tau) / 2


class Net(nn.Module):
    of_class = 0.5

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.parts, self.p = nn.Conv2d(3, 4, 1), nn.ModuleList([Part(), Part()]), 0.25
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = F.dropout2d(self.norm(self.stem(x)), self.p, self.training)
        for part in self.parts:
            y = part(y)
        return torch.add(y, y, alpha=self.of_class).clamp(max=2.0)


def found(traced: fx.GraphModule) -> dict[str, object]:
    numbers = [n for node in traced.graph.nodes for n in node.meta.get("numbers", ())]
    return {f"{n.name} {n.place}": n for n in numbers}


def test_operands_are_named_and_sizes_are_not() -> None:
    net = Net()
    numbers = found(trace_graph(net, (3, 8, 8)))
    assert list(numbers) == [
        "p p",
        *(f"parts.{i}.{name}" for i in (0, 1) for name in ("tau 1", "times 1", "tau None")),
        "of_class alpha",
    ]
    assert all(re.match(r"tracing/test_numbers.py:\d+$", n.line) for n in numbers.values())
    assert [n.value for n in numbers.values()][:3] == [0.25, 1.5, 3]


def test_the_network_is_left_as_it_was_and_the_graph_has_plain_numbers() -> None:
    net = Net()
    before = {n: dict(vars(m)) for n, m in net.named_modules()}
    traced = trace_graph(net, (3, 8, 8))
    assert {n: dict(vars(m)) for n, m in net.named_modules()} == before
    assert type(net.p) is float
    assert "of_class" not in vars(net)
    given = [a for n in traced.graph.nodes for a in (*n.args, *n.kwargs.values())]
    assert {type(a) for a in given if isinstance(a, float)} == {float}


def test_what_is_read_when_it_runs_follows_the_network_and_the_rest_is_told() -> None:
    net = Net().eval()
    traced = trace_graph(net, (3, 8, 8))
    stay = read_when_run(traced.graph)
    assert [n.name for n in stay] == ["parts.0.tau", "parts.1.tau"]
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for part in net.parts:
        part.times = 5
    net.of_class = 0.75
    run = fx.Interpreter(net, graph=traced.graph).run(x)
    torch.testing.assert_close(run, net(x))
    net.parts[0].tau = 9.0
    assert not torch.equal(fx.Interpreter(net, graph=traced.graph).run(x), run)


@pytest.mark.parametrize("value", [float("inf"), -0.0, 1e-300])
def test_any_float_passes_through(value: float) -> None:
    net = Net()
    net.p, net.of_class = 0.0, value
    (number,) = [n for key, n in found(trace_graph(net, (3, 8, 8))).items() if "of_class" in key]
    assert number.value == value
