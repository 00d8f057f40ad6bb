"""Numbers that a forward reads from its modules, found in the graph that tracing froze."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from irbin.rewriting.told import tell_numbers
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


class Branches(nn.Module):
    """A forward whose branches numbers decide, and that reads some from containers."""

    def __init__(self, tau: float = 2.0) -> None:
        super().__init__()
        self.conv, self.tau, self.rate, self.heads = nn.Conv2d(3, 4, 1), tau, 0.1, 2
        self.scales, self.named = [0.5, [3.0]], {"shift": 0.25}

    @property
    def twice(self) -> float:
        return 2 * self.tau

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if self.twice > 1:
            y = y * self.scales[1][0]
        if self.rate > 0:
            y = F.dropout(y, self.rate, self.training)
        if self.heads > 1:
            y = y + self.named["shift"]
        return y


def test_floats_that_decide_a_branch_are_found_but_rates_of_dropout_and_sizes_are_not() -> None:
    deciding = trace_graph(Branches(), (3, 8, 8)).meta["deciding"]
    assert [(n.name, n.value) for n in deciding] == [("tau", 4.0)]
    assert re.match(r"tracing/test_numbers.py:\d+$", deciding[0].line)


def test_floats_in_containers_are_found_and_the_containers_stay() -> None:
    net = Branches()
    scales, named = net.scales, net.named
    numbers = found(trace_graph(net, (3, 8, 8)))
    assert {"scales[1][0] 1", "named['shift'] 1"} & set(numbers) == set()
    assert {"scales[1][0] None", "named['shift'] None"} <= set(numbers)
    assert net.scales is scales
    assert net.named is named
    assert type(scales[1][0]) is float


def test_one_note_says_which_branches_and_containers_are_settled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    traced = trace_graph(Branches(), (3, 8, 8))
    tell_numbers(Branches(), read_when_run(traced.graph), traced.meta["deciding"])
    (record,) = caplog.records
    assert "`scales[1][0]`" in record.getMessage()
    assert "`tau`" in record.getMessage()
    caplog.clear()
    tell_numbers(Branches(), [], traced.meta["deciding"])
    (record,) = caplog.records
    assert re.search(
        r"with the branches that `tau` \(tracing/test_numbers\.py:\d+\) decides as it is now",
        record.getMessage(),
    )


class Unscaled(Net):
    of_class = None  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        return y if self.of_class is None else y * self.of_class


def test_an_attribute_that_a_subclass_overrides_with_another_type_stays_the_subclasss() -> None:
    traced = trace_graph(Unscaled(), (3, 8, 8))
    assert [n.op for n in traced.graph.nodes] == ["placeholder", "call_module", "output"]


def test_an_equal_number_beside_an_attribute_in_its_line_is_not_the_attribute() -> None:
    class Equal(Net):
        def forward(self, x: Tensor) -> Tensor:
            y = super().forward(x)
            return y * 3 if self.parts[0].times > 2 and self.n > 2 else y

        n = 3

    assert "n 1" not in found(trace_graph(Equal(), (3, 8, 8)))
