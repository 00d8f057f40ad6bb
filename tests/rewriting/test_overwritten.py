"""In-place writes that training does not survive are named; torch's own words speak of versions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import irbin
from irbin import SourceOptions
from irbin.errors import ConvertError
from irbin.rewriting.overwritten import overwritten


class Net(nn.Module):
    def __init__(self, act: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.stem, self.n0, self.relu = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()
        self.body, self.n1 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.head, self.act = nn.Linear(8, 4), act

    def forward(self, x: Tensor) -> Tensor:
        x = self.n0(self.stem(x))
        y = self.n1(self.body(self.relu(x)))
        return self.head((y + self.act(x)).mean((2, 3)))


def converted(source: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    how = SourceOptions(input_size=(3, 8, 8), mean=(0.5,) * 3, std=(0.5,) * 3)
    return irbin.convert(source, source_options=how).module


@pytest.mark.parametrize(
    ("act", "name"),
    [
        (F.relu_, "relu_"),
        (lambda x: F.silu(x, inplace=True), "silu"),
        (lambda x: x.mul_(2), "mul_"),
        (nn.ELU(inplace=True), "elu"),
    ],
)
def test_a_write_over_what_a_replaced_relu_needs_is_named(
    act: Callable[[Tensor], Tensor], name: str
) -> None:
    source = Net(act)
    source(torch.randn(2, 3, 8, 8)).sum().backward()  # which trains
    with pytest.raises(ConvertError) as raised:
        converted(source)
    assert str(raised.value) == (
        f"the converted network does not train: `{name}` overwrites what a gradient needs (a "
        "ReLU's needs its result, that of what replaces it what goes in); use functions that are "
        "not in place (`F.relu(x)` for `F.relu_(x)`, `inplace=False`)"
    )


def test_writes_that_no_gradient_minds_are_left_alone() -> None:
    converted(Net(lambda x: x.clone().mul_(2)))


def test_other_errors_are_other_errors() -> None:
    assert overwritten(nn.Identity(), torch.zeros(1), RuntimeError("something else")) == ""


class TwiceRectified(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(F.relu_(self.n0(self.stem(x))))
        return self.head(self.n1(self.body(x)).mean((2, 3)))


def test_a_relu_in_place_below_another_is_replaced_with_it() -> None:
    module = converted(TwiceRectified(F.relu))
    x = module.n0(module.stem(torch.randn(4, 3, 8, 8)))
    assert float(module.relu(x).detach().min()) < 0
    assert module.activation_relu_.__class__ is module.relu.__class__
