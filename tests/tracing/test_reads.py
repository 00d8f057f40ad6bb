"""What a network's own code reads of its modules while it is traced, and what of that is frozen."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irbin.tracing.numbers import read_when_run
from irbin.tracing.reads import frozen_settings, parts_with_modes, reads_of
from irbin.tracing.trace import trace_graph
from irbin.tracing.tracer import trace_symbolically


class Part(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.times, self.gate, self.p = nn.Conv2d(4, 4, 1), 2, True, 0.5

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.times):
            x = self.conv(x)
        if self.gate and self.training:
            x = x + 1
        return F.dropout(x, self.p, self.training)


class Net(nn.Module):
    depth = 2

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.parts = nn.Conv2d(3, 4, 1), nn.ModuleList([Part(), Part()])
        self.pool, self.cut, self.after, self.unread = "avg", (2, 3), None, 3
        self.k, self.both, self.n_calls, self.tau, self.start = 3, 3, 0, 1.5, 0.25

    @property
    def deep(self) -> bool:
        return self.depth > 1

    def forward(self, x: Tensor) -> Tensor:
        self.n_calls += 1
        x = F.dropout2d(self.stem(x), 0.1, self.training) * self.k * self.both
        for part in self.parts if self.deep else []:
            x = part(x)
        if self.pool == "avg" and self.after is None and self.both > 1:
            x = x.mean(self.cut)
        return x * self.tau + (1 - self.start)


FROZEN = {"depth", "pool", "cut", "after", "both", "start"}


def test_what_decides_is_frozen_and_operands_are_not() -> None:
    traced = trace_graph(Net(), (3, 8, 8))
    read_when_run(traced.graph)
    of_parts = {f"parts.{i}.{name}" for i in (0, 1) for name in ("times", "gate")}
    assert frozen_settings(traced) == FROZEN | of_parts


def test_parts_that_branch_on_their_mode_are_those_that_do_more_than_hand_it_on() -> None:
    net = Net()
    traced = trace_graph(net, (3, 8, 8))
    assert parts_with_modes(traced) == ("parts.0", "parts.1")
    for part in net.parts:
        part.gate = False
    assert parts_with_modes(trace_graph(net, (3, 8, 8))) == ()


def test_those_of_either_mode_count() -> None:
    class Either(Net):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2 if self.training or self.pool == "max" else super().forward(x)

    traced, opaque = trace_symbolically(Either(), training=True)
    traced.meta["opaque"] = opaque
    assert frozen_settings(traced) == frozenset()
    traced.meta["evaluation"], _ = trace_symbolically(Either(), training=False)
    assert {"pool", "cut"} <= frozen_settings(traced)


def test_what_runs_its_own_forward_reads_anew() -> None:
    class Opaque(Part):
        def forward(self, x: Tensor) -> Tensor:
            y = super().forward(x)
            return y if self.gate and float(y.mean()) > 0 else -y

    net = Net()
    net.parts[0] = Opaque()
    traced = trace_graph(net, (3, 8, 8))
    assert "parts.0" in traced.meta["opaque"]
    assert frozen_settings(traced) == FROZEN | {"parts.1.times", "parts.1.gate"}


def test_modules_are_looked_up_as_before_afterwards() -> None:
    net, other = Net(), Net()
    with reads_of(net) as reads:
        assert (net.pool, other.pool, other.cut, net.deep) == ("avg", "avg", (2, 3), True)
        with reads_of(other) as inner:
            assert other.pool == "avg"
        assert net.pool == "avg"
    assert net.cut == (2, 3)
    assert dict(reads) == {"pool": 2, "depth": 1}
    assert dict(inner) == {"pool": 1}
    assert "__getattribute__" not in vars(nn.Module)
    assert torch.equal(net.stem.weight, net.get_parameter("stem.weight"))
