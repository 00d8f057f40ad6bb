"""What is given in a network's place is told as what it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import irbin
from irbin.errors import SourceError
from irbin.records.options import SourceOptions
from irbin.sources.opened import open_any, open_network, runnable, teacher_of


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (nn.Linear, r"the class `Linear`; give an instance of it, `Linear\(…\)`"),
        (nn.Linear(2, 2).state_dict(), "a dictionary; load a state dict into its network first"),
        (3, "a `int`$"),
        (None, "None$"),
    ],
    ids=["class", "state dict", "number", "None"],
)
def test_what_is_no_network_is_told_as_what_it_is(given: object, words: str) -> None:
    message = rf"^expected a name, a path or a network, got {words}"
    with pytest.raises(SourceError, match=message):
        open_network(given)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_converted_module_without_its_plan_is_told_and_still_runs(tmp_path: Path) -> None:
    """It was planned, trained and taken for a teacher as if it were float."""
    features = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3)]
    net = nn.Sequential(*features, nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(128, 2))
    size = SourceOptions(input_size=(3, 8, 8))
    converted = irbin.convert(net, source_options=size)
    bare = converted.module
    for call in (
        irbin.plan,
        irbin.convert,
        lambda source, **how: irbin.export(source, tmp_path / "packed", **how),
        lambda source, **how: teacher_of(converted, source, how["source_options"]),
    ):
        with pytest.raises(
            SourceError, match=r"got the `Sequential` of one that is converted alre"
        ):
            call(bare, source_options=size)
    module, form = runnable(open_any(bare, size))
    assert form == "binary"
    assert module(torch.zeros(1, 3, 8, 8)).shape == (1, 2)
    assert runnable(open_any(net, size))[1] == "float"


class _EqualByShape(nn.Conv2d):
    def __eq__(self, other: object) -> bool:
        return isinstance(other, nn.Conv2d) and other.weight.shape == self.weight.shape


class _HashedByShape(_EqualByShape):
    def __hash__(self) -> int:
        return hash(self.weight.shape)


@pytest.mark.parametrize("kind", [_EqualByShape, _HashedByShape])
def test_layers_that_say_what_equals_them_are_told(kind: type[nn.Conv2d]) -> None:
    """Torch meets one of two such layers alone, or fails on a set."""
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Sequential(kind(8, 8, 3), kind(8, 8, 3)))
    with pytest.raises(SourceError, match=rf"`1\.\d`: expected a layer that .* `{kind.__name__}`"):
        irbin.convert(net, options=SourceOptions(input_size=(3, 32, 32)))
