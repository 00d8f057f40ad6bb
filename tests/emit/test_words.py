"""What C has no kernel for gives, in words that it has, what torch gives."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from irbin.artifact.read import Artifact
from irbin.artifact.schema import Manifest
from irbin.emit.words import SUMMED, in_words
from irbin.program.lower import lower
from irbin.records.options import Preprocessing, SourceRecord
from irbin.records.plan import Plan, PlanOptions
from irbin.runtime.engine import Engine

SIZE = (6, 5, 4)


class Rows(nn.Module):
    """A layer of rows of pixels."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x.flatten(2))


class Zeros(nn.Module):
    """Zeros of which a constant is made."""

    def forward(self, x):
        mask = x.new_zeros((5, 4))
        mask[1:3] = 2
        return x + mask


def artifact(module: nn.Module) -> Artifact:
    lowered = lower(module.eval(), SIZE)
    source = SourceRecord("s", "timm:s", 2, Preprocessing(input_size=SIZE))
    plan = Plan(PlanOptions(), (), SIZE, 0, 0, 0)
    return Artifact("", Manifest("0", "float32", source, plan), lowered.program, lowered.tensors)


@pytest.mark.parametrize(
    "module",
    [
        Rows(nn.Conv1d(6, 4, 3)),
        Rows(nn.Conv1d(6, 8, 5, 2, 3, dilation=2, groups=2, bias=False)),
        Rows(nn.Conv1d(6, 6, 1, groups=6)),
        nn.ConvTranspose2d(6, 4, 1),
        nn.ConvTranspose2d(6, 4, 3, padding=2, bias=False),
        nn.ConvTranspose2d(6, 4, (2, 3), (2, 1), (0, 1), (1, 0), groups=2),
        nn.ConvTranspose2d(6, 6, 3, 3, 2, 1, groups=6, dilation=(1, 2)),
        Zeros(),
    ],
    ids=str,
)
def test_words_give_the_same(module: nn.Module) -> None:
    torch.manual_seed(0)
    one, x = artifact(module), torch.randn(2, *SIZE)
    said = in_words(one.program)
    left = {*SUMMED, "aten.new_zeros.default"}
    assert left & {node.op for node in one.program.nodes}
    assert not left & {node.op for node in said.nodes}
    (made,) = Engine(replace(one, program=said)).run(x)
    with torch.no_grad():
        wanted = module(x)
    assert made.shape == wanted.shape
    assert torch.allclose(made, wanted, rtol=1e-4, atol=1e-5)


def test_a_program_without_them_stays_as_it_is() -> None:
    program = artifact(nn.Conv2d(6, 4, 3)).program
    assert in_words(program) is program
