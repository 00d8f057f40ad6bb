"""Code in the forward of an autograd function is told from code without gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from irbin.tracing.backward import is_in_autograd_function


class Doubles(torch.autograd.Function):
    seen = False

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        Doubles.seen = is_in_autograd_function()
        return x * 2


class WithContext(Doubles):
    """The other way to write one, a function of a function's."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        WithContext.seen = (lambda: is_in_autograd_function())()
        return x * 2

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass


def test_only_within_an_autograd_function() -> None:
    for kind in (Doubles, WithContext):
        kind.apply(torch.ones(1))
        assert kind.seen
    with torch.no_grad():
        assert not is_in_autograd_function()
    assert not is_in_autograd_function()
