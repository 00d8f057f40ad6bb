"""What export sees of a network is what a call of it does, for one image and for several."""

import random
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.compiler import is_exporting

from irbin.binary.anneal import EdePhase
from irbin.binary.layers import BinaryConv2d, BinaryLinear, Method
from irbin.errors import LowerError
from irbin.program.lower import check_lowers, lower

SIZE = (3, 6, 6)
PLACE = f"{Path(__file__).parent.name}/{Path(__file__).name}"


class Net(nn.Module):
    """Binary in the middle, and then what the case does to the features, (batch, 4)."""

    def __init__(self):
        super().__init__()
        conv = nn.Conv2d(3, 4, 3, padding=1)
        self.conv = BinaryConv2d.from_float(conv, Method(), EdePhase())
        self.head = BinaryLinear.from_float(nn.Linear(4, 5), Method(), EdePhase())

    def features(self, x):
        return self.conv(x).mean((2, 3))


class AsksTheCompiler(Net):
    def forward(self, x):
        x = self.features(x)
        if torch.compiler.is_compiling():
            x = x + 9
        return self.head(x) + x.sum(1, keepdim=True)


class AsksByAName(Net):
    def forward(self, x):
        y = self.head(self.features(x))
        return y * 2 if is_exporting() else y


class OneImageIsSpecial(Net):
    def forward(self, x):
        y = self.head(self.features(x))
        if x.shape[0] == 1:
            return y * 2
        return y


class LosesTheBatch(Net):
    def forward(self, x):
        return self.head(self.features(x)).squeeze(0)


class Random(Net):
    def forward(self, x):
        return self.head(self.features(x)) * random.random()


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (AsksTheCompiler, rf"while `torch.export` follows its code \({PLACE}:\d+\): it asks"),
        (AsksByAName, "while `torch.export` follows its code: it asks"),
        (OneImageIsSpecial, rf"otherwise for one image alone than for one of .* \({PLACE}:\d+\)"),
        (LosesTheBatch, r"otherwise for one image alone than for one of several, as by `x.squee"),
        (Random, "`Random` never gives the same answer twice in evaluation mode"),
    ],
)
def test_another_branch_than_that_of_a_call_is_refused(made, words):
    torch.manual_seed(0)
    with pytest.raises(LowerError, match=words):
        check_lowers(made(), SIZE)


class AsksInVain(Net):
    def forward(self, x):
        x = self.features(x)
        if not torch.compiler.is_compiling():
            assert x.shape[1] == 4
        return self.head(x if x.shape[0] == 1 else x[:])


class NotForOneImage(Net):
    def forward(self, x):
        if x.shape[0] == 1:
            raise ValueError("too few")
        return self.head(self.features(x))


@pytest.mark.parametrize("made", [AsksInVain, NotForOneImage])
def test_what_makes_no_difference_is_none(made):
    torch.manual_seed(0)
    network = made()
    assert lower(network, SIZE).program.nodes


class KeepsATable(Net):
    """Tables that a forward keeps are tensors without numbers after export."""

    def __init__(self):
        super().__init__()
        self.tables = {}

    def forward(self, x):
        n = x.shape[-1]
        if n not in self.tables:
            self.tables[n] = torch.linspace(-1, 1, n)
        return self.head(self.features(x + self.tables[n]))


@pytest.mark.filterwarnings("ignore:The tensor attribute self.tables")
@pytest.mark.parametrize("n_calls", [0, 1])
def test_tables_that_a_forward_keeps_are_numbers(n_calls):
    torch.manual_seed(0)
    network = KeepsATable()
    for _ in range(n_calls):
        network(torch.zeros(1, *SIZE))
    check_lowers(network, SIZE)
    assert all(type(table) is torch.Tensor for table in network.tables.values())
