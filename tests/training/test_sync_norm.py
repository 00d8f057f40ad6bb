"""Batch norm over processes while torch.compile warms up; the rest needs two processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

from irbin.processes import Group
from irbin.recipes.recipe import Recipe
from irbin.training import sync_norm
from irbin.training.precision import compiled
from irbin.training.sync_norm import synchronized, unsynchronized

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SHAPE = (4, 3, 6, 6)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.conv2, self.norm2 = nn.Conv2d(4, 5, 1), BatchNormAct2d(5)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu())) + 1
        return y


def network() -> nn.Module:
    torch.manual_seed(0)
    return Net()


def refuse(_tensor: Tensor) -> Tensor:
    raise AssertionError("nobody answers: the other process failed to compile")


@pytest.mark.parametrize("device", [CPU, CUDA])
def test_alone_it_is_batch_norm_of_the_own_batch(device: torch.device) -> None:
    """torch's own refuses tensors of the CPU whenever it would synchronize."""
    x = torch.randn(SHAPE)
    wanted = network()(x)
    module = synchronized(network(), Group(0, 2, device))
    with unsynchronized():
        torch.testing.assert_close(module(x), wanted)


def test_compiling_waits_for_no_other_process(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which may have failed, or do it again: its exchanges would meet others, or none."""
    monkeypatch.setattr(sync_norm.differentiable, "all_reduce", refuse)
    made: list[Callable[..., Tensor]] = []

    def compile_(module: nn.Module, mode: str | None = None) -> Callable[..., Tensor]:
        made.append(lambda x: module(x))
        return made[-1]

    monkeypatch.setattr(torch, "compile", compile_)
    together = replace(recipe, sync_bn=True, channels_last=False)
    module = synchronized(network(), Group(0, 2, CPU))
    assert compiled(module, together, SHAPE, CPU, required=True) is made[0]
    with pytest.raises(AssertionError, match="nobody answers"):
        made[0](torch.randn(SHAPE))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch hides it itself
def test_what_was_compiled_alone_serves_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is compiled in the first step, where a failure could no longer be agreed on."""
    n_exchanges = 0

    def exchange(tensor: Tensor) -> Tensor:
        nonlocal n_exchanges
        n_exchanges += 1
        return tensor

    monkeypatch.setattr(sync_norm.differentiable, "all_reduce", exchange)
    counter = CompileCounter()
    fast = torch.compile(synchronized(network(), Group(0, 2, CPU)), backend=counter)
    with unsynchronized():
        fast(torch.randn(SHAPE)).sum().backward()
    n_compiled = counter.frame_count
    assert (n_compiled > 0, n_exchanges) == (True, 0)
    fast(torch.randn(SHAPE)).sum().backward()
    assert (counter.frame_count, n_exchanges) == (n_compiled, 2)
