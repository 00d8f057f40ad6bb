"""The training tests' tiny network, and smaller ones: a binary layer, alone or called by hand."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from irbin.binary.anneal import EdePhase
from irbin.binary.layers import BinaryConv2d, BinaryLinear, Method
from tests.training.conftest import make_network as make_network


def linear(n_in: int = 8, n_out: int = 4, method: Method | None = None) -> BinaryLinear:
    layer = nn.Linear(n_in, n_out, bias=False)
    return BinaryLinear.from_float(layer, method or Method(), EdePhase())


def conv(n_in: int = 2, n_out: int = 4, method: Method | None = None) -> BinaryConv2d:
    layer = nn.Conv2d(n_in, n_out, 3, padding=1, bias=False)
    return BinaryConv2d.from_float(layer, method or Method(), EdePhase())


class Root(nn.Module):
    """Calls `layer` as `run` says."""

    def __init__(self, run: Callable[..., torch.Tensor], **parts: nn.Module) -> None:
        super().__init__()
        self.run = run
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.run(self, x)
