"""A small trained network, lowered, with a plan made by hand that predicts its bytes."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from irbin.binary.anneal import EdePhase
from irbin.binary.layers import BinaryConv2d, BinaryLinear, Method
from irbin.program.lower import lower
from irbin.program.lowered import Lowered
from irbin.records.options import Preprocessing, SourceRecord
from irbin.records.plan import Decision, LayerRecord, Plan, PlanOptions


@dataclass
class Exported:
    module: nn.Module
    lowered: Lowered
    source: SourceRecord
    plan: Plan

    @property
    def arguments(self):
        return self.lowered, self.source, self.plan


def decision(name, kind, shape, packed_bytes, binary, bias=False) -> Decision:
    layer = LayerRecord(name, kind, kind, shape, 1, bias, 0, (), ())
    return Decision(layer, binary, "binary" if binary else "kept", packed_bytes)


@pytest.fixture(scope="session")
def exported() -> Exported:
    torch.manual_seed(0)
    phase = EdePhase()
    module = nn.Sequential(
        nn.Conv2d(3, 13, 3, bias=False),
        nn.BatchNorm2d(13),
        nn.Hardtanh(),
        BinaryConv2d.from_float(nn.Conv2d(13, 8, 3, padding=1), Method(), phase),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        BinaryLinear.from_float(nn.Linear(8, 4, bias=False), Method(), phase),
        nn.Linear(4, 3),
    ).eval()
    decisions = (
        decision("0", "conv2d", (13, 3, 3, 3), 4 * 13 * 27, False),
        # out · kh · kw · ⌈in / 8⌉ bits, an exponent and a bias each
        decision("3", "conv2d", (8, 13, 3, 3), 8 * 9 * 2 + 8 + 4 * 8, True, bias=True),
        decision("6", "linear", (4, 8), 4 + 4, True),
        decision("7", "linear", (3, 4), 4 * 15, False, bias=True),
    )
    plan = Plan(PlanOptions(), decisions, (3, 8, 8), 26, other_bytes=2 * 4 * 13, n_other_floats=26)
    names = ("cat", "hond", "muñeca")
    source = SourceRecord("s", "module:s:s", 3, Preprocessing((3, 8, 8)), class_names=names)
    return Exported(module, lower(module, (3, 8, 8)), source, plan)
