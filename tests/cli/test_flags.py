from __future__ import annotations

from dataclasses import dataclass
from inspect import Parameter, signature
from typing import Annotated, Any

import pytest

from irbin.cli.flags import docstring, flat, given, joined_numbers, reflow, words


@dataclass(frozen=True)
class Group:
    must: Annotated[int, "first"]
    may: Annotated[list[str] | None, "second"] = None


def test_a_group_becomes_flat_parameters_and_comes_back() -> None:
    seen = {}

    @flat
    def command(group: Group, other: Annotated[str, "third"] = "x") -> None:
        seen.update(group=group, other=other)

    parameters = signature(command).parameters
    assert list(parameters) == ["must", "may", "other"]
    assert parameters["must"].default is Parameter.empty
    assert parameters["may"].annotation == Annotated[list[str] | None, "second"]
    command(must=1, may=["a"], other="y")
    assert seen == {"group": Group(1, ["a"]), "other": "y"}


def test_given_leaves_out_what_was_not_set() -> None:
    assert given(Group(0)) == {"must": 0}
    assert given(Group(1, ["a", "b"])) == {"must": 1, "may": ("a", "b")}
    assert given(Group(1, []), without=("must",)) == {"may": ()}


@dataclass(frozen=True)
class Flags:
    some_name: Annotated[str | None, ""] = None
    rules: Annotated[list[str] | None, ""] = None
    size: Annotated[tuple[int, int] | None, ""] = None
    yes: Annotated[bool, ""] = False
    trained: Annotated[bool, ""] = True
    n: Annotated[int, ""] = 3


def test_words_are_what_was_typed_beside_the_defaults() -> None:
    assert words(Flags()) == []
    typed = Flags("x", ["a", "b c"], (1, 2), True, False, 4)
    assert words(typed, without=("n",)) == [
        "--some-name",
        "x",
        "--rules",
        "a",
        "--rules",
        "b c",
        "--size",
        "1",
        "2",
        "--yes",
        "--no-trained",
    ]
    assert words(Flags(n=4)) == ["--n", "4"]


@pytest.mark.parametrize(
    ("docstring", "text"),
    [
        ("", ""),
        ("One.", "One."),
        ("One\n    two.\n\n    Three\n    four.\n    ", "One two.\n\nThree four."),
    ],
)
def test_paragraphs_become_lines(docstring: str, text: str) -> None:
    assert reflow(docstring) == text


def documented() -> None:
    """One line.

    And more.
    """


class TestDocstring:
    def test_is_the_function_s_own(self) -> None:
        assert docstring(documented) == documented.__doc__

    def test_comes_from_the_source_where_python_threw_it_away(self, monkeypatch) -> None:
        monkeypatch.setattr(documented, "__doc__", None)
        assert docstring(documented) == "One line.\n\nAnd more."
        assert docstring(flat(documented)) == "One line.\n\nAnd more."

    def test_is_empty_where_there_is_no_source_and_where_it_is_not_a_function(self) -> None:
        made: dict[str, Any] = {}
        exec("def nameless(): ...", made)
        assert docstring(made["nameless"]) == ""
        assert docstring(lambda: None) == ""


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("--mean 0.5 0.25 1 net", "--mean 0.5,0.25,1 net"),
        ("net --std 1/255 -o x", "net --std 1/255 -o x"),
        ("--mean -0.5 .5 --std 1,2 3", "--mean -0.5,.5 --std 1,2,3"),
        ("--mean", "--mean"),
        ("--crop-pct 0.9 7", "--crop-pct 0.9 7"),
    ],
)
def test_mean_and_std_take_all_numbers_that_follow(typed: str, read: str) -> None:
    assert joined_numbers(typed.split()) == read.split()
