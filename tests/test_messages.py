from __future__ import annotations

import pytest

from irbin.messages import names_of, nearest


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("resnet19", ["resnet18", "vit"], "; nearest: `resnet18`"),
        ("resnet19", ["vit"], ""),
        ("resnet19", [], ""),
        ("ab", ["abc", "abc"], "; nearest: `abc`"),
    ],
)
def test_nearest_names(name: str, known: list[str], expected: str) -> None:
    assert nearest(name, known) == expected


def test_at_most_three_are_named() -> None:
    assert nearest("layer", [f"layer{i}" for i in range(9)]).count("`") == 6


def test_names_are_counted_past_three() -> None:
    assert names_of([]) == "nothing"
    assert names_of("abc") == "`a`, `b`, `c`"
    assert names_of("abcde") == "`a`, `b`, `c` and 2 more"
