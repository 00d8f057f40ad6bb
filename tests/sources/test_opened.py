"""What is given in a network's place is told as what it is."""

from __future__ import annotations

import pytest
from torch import nn

from irbin.errors import SourceError
from irbin.sources.opened import open_network


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
