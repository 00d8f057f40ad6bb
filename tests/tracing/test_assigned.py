"""Attributes that a forward sets are found by tracing it, and put back."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from irbin.tracing.tracer import trace_symbolically


class Part(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last, self.same = nn.Conv2d(4, 4, 1), None, 2

    def forward(self, x: Tensor) -> Tensor:
        self.last, self.same = x.mean(), 2
        return self.conv(x)


class Setting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.part = nn.Conv2d(3, 4, 1), Part()
        self.feats: list[Tensor] = []
        self.held: dict[str, Tensor] = {}
        self.calls, self.flag, self.name = 0, False, "a"

    def forward(self, x: Tensor) -> Tensor:
        y = self.part(self.stem(x))
        self.aux_loss = y.square().mean()
        self.feats.append(y)
        self.held["y"] = y
        self.calls += 1
        self.flag, self.name = True, "b"
        return y


def test_what_a_forward_sets_is_found_by_path() -> None:
    net = Setting()
    traced, _ = trace_symbolically(net, training=True)
    assert traced.meta["assigned"] == ("feats", "held", "calls", "aux_loss", "part.last")
    assert (net.feats, net.held, net.calls, net.part.last) == ([], {}, 0, None)
    assert not hasattr(net, "aux_loss")


def test_a_forward_that_sets_nothing_new() -> None:
    class Quiet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.scale, self.kept = nn.Conv2d(3, 4, 1), 2.0, torch.ones(1)

        def forward(self, x: Tensor) -> Tensor:
            self.scale, self.kept = 2.0, self.kept
            return self.conv(x) * self.scale

    assert trace_symbolically(Quiet(), training=True)[0].meta["assigned"] == ()
