"""Adding a knob is a line in a record: these tests add some and look where they appear."""

from __future__ import annotations

from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from pydantic import TypeAdapter, ValidationError
from typer.testing import CliRunner

from irbin.cli.flags import flat, given, words
from irbin.cli.record_flags import (
    FROM_RECORD,
    Flags,
    elsewhere,
    flag_of,
    parse_numbers,
    parse_pairs,
)
from irbin.cli.reference import options_table, section
from irbin.errors import UsageError
from irbin.recipes.file import knob_lines
from irbin.recipes.knobs import Amount
from irbin.recipes.recipe import Recipe
from irbin.records.knob import METHOD, PLAN, RUN, Knob, taken
from irbin.records.plan import PlanOptions


@dataclass(frozen=True)
class Grown(PlanOptions):
    polish: Annotated[
        Literal["none", "wax"], Knob(PLAN, "What comes last, after `weight_estimator`.")
    ] = "none"


class GrownFlags(Flags, record=Grown, defaults="shown"):
    pass


@flat
def plan(options: GrownFlags) -> None:
    """Plan."""
    typer.echo(f"{options.values()} {words(options)}")


app = typer.Typer()
app.command()(plan)


def invoked(*typed: str) -> str:
    done = CliRunner().invoke(app, typed, env={"COLUMNS": "200", "TERM": "dumb"})
    assert done.exit_code == 0, done.output
    return done.output


class TestAKnobAddedToARecord:
    def test_is_a_flag(self) -> None:
        assert invoked("--polish", "wax") == "{'polish': 'wax'} ['--polish', 'wax']\n"
        assert invoked() == "{} []\n"

    def test_takes_its_own_words_only(self) -> None:
        done = CliRunner().invoke(app, ["--polish", "soap"])
        assert done.exit_code == 2

    def test_is_in_the_help(self) -> None:
        (line,) = [line for line in invoked("--help").splitlines() if "--polish" in line]
        assert "<none|wax>" in line
        assert "What comes last, after --weight-estimator." in line
        assert "[default: (none)]" in line

    def test_is_a_row_of_the_command_line_s_page(self) -> None:
        row = "| `--polish` none\\|wax | What comes last, after --weight-estimator. | none |"
        assert row in section("plan", plan)

    def test_is_a_row_of_the_python_page(self) -> None:
        row = (
            '| `polish` | What comes last, after `weight_estimator`. | `"none"`, `"wax"` | '
            '`"none"` |'
        )
        assert row in options_table(Grown).splitlines()
        assert row not in options_table(PlanOptions).splitlines()


@dataclass(frozen=True)
class GrownRecipe(Recipe):
    polish: Annotated[Amount, Knob(METHOD, "Shine, relative to `lr`.", "X", why="Dull.")] = 0.5


class GrownRecipeFlags(Flags, record=GrownRecipe, defaults="hidden"):
    pass


@flat
def train(knobs: GrownRecipeFlags) -> None:
    """Train."""


class FewFlags(
    Flags, record=Grown, defaults="hidden", only=("polish",), panel="Elsewhere", shown="as it is"
):
    where: Annotated[str | None, elsewhere(flag_of(Grown, "bits"), "There", "here")] = None
    polish: FROM_RECORD


@flat
def few(options: FewFlags) -> None:
    """Few."""


class TestAKnobOfAnotherCommand:
    def test_is_listed_where_it_is_asked_for_and_declared_once(self) -> None:
        page = section("few", few)
        there = page.index("**There**")
        assert page.index("**Elsewhere**") > there
        assert "What comes last, after --weight-estimator. | as it is |" in page
        assert "Weights and activations binary, or weights only. | here |" in page[there:]
        assert "| What comes last, after --weight-estimator. | as it is |" not in section("p", plan)

    def test_is_one_of_few(self) -> None:
        assert list(signature(few).parameters) == ["where", "polish"]
        assert FewFlags(polish="wax", where="x").values() == {"polish": "wax"}


def test_keywords_are_divided_between_records() -> None:
    assert taken(Grown, {"polish": "wax", "samples": 3}) == (Grown(polish="wax"), {"samples": 3})


class TestAKnobAddedToTheRecipe:
    def test_is_a_flag_without_a_value(self) -> None:
        assert GrownRecipeFlags(polish=2.0, epochs=3).values() == {"epochs": 3, "polish": 2.0}
        assert "| `--polish` X | Shine, relative to --lr. |  |" in section("train", train)

    def test_is_a_line_of_the_recipe_with_what_it_does(self) -> None:
        lines = knob_lines(GrownRecipe()).splitlines()
        assert lines[-3:] == ["# Method", "# Dull.", "polish: 0.5  # Shine, relative to `lr`."]
        assert "# Dull." not in knob_lines(GrownRecipe(polish=1.0))

    def test_is_checked(self) -> None:
        adapter = TypeAdapter(GrownRecipe)
        assert adapter.validate_python({"polish": 3}).polish == 3.0
        for wrong in (-1, True, float("inf"), float("nan")):
            with pytest.raises(ValidationError):
                adapter.validate_python({"polish": wrong})

    def test_is_a_row_of_the_python_page(self) -> None:
        row = "| `polish` | Shine, relative to `lr`. | `float` | `0.5` |"
        assert row in options_table(GrownRecipe).splitlines()


@dataclass(frozen=True)
class Record:
    place: Annotated[str | None, Knob(RUN, "A.", "DIR", typed=Path)] = None
    is_on: Annotated[bool, Knob(RUN, "B.")] = False
    is_off: Annotated[bool, Knob(RUN, "C.", off="no-more")] = True
    automatic: Annotated[bool | Literal["auto"], Knob(RUN, "D.")] = "auto"
    n: Annotated[
        int | None,
        Knob(RUN, "E.", "N", shown="the other's", least=1, also=("m", "num")),
    ] = None
    pair: Annotated[tuple[float, float], Knob(RUN, "F.", "LOW HIGH")] = (0.0, 1.0)
    several: Annotated[tuple[float, ...], Knob(RUN, "G.", "X")] = ()
    numbers: Annotated[tuple[float, ...] | None, Knob(RUN, "H.", "X...", typed=str)] = None
    border: Annotated[int | Literal["auto"], Knob(RUN, "I.", "N|auto", typed=str)] = "auto"
    more: Annotated[dict[str, Any], Knob(RUN, "J.", "KEY=VALUE")] = field(default_factory=dict)
    silent: int = 3


class RecordFlags(Flags, record=Record):
    pair: FROM_RECORD
    own: Annotated[str | None, typer.Option(help="K.")] = None


class Asked(Flags, record=Record, defaults="hidden"):
    pass


@flat
def command(flags: RecordFlags) -> None:
    """Words."""


@flat
def asking(flags: Asked) -> None:
    """Words."""


def test_flags_stand_in_the_record_s_order_behind_the_group_s() -> None:
    names = list(signature(command).parameters)
    assert names[:3] == ["pair", "own", "place"]
    assert "silent" not in names
    assert len(names) == 11


def test_rows_are_as_typer_would_have_them() -> None:
    rows = {row.split("`")[1]: row for row in section("x", command).splitlines() if "`--" in row}
    assert rows["--is-on"] == "| `--is-on` | B. |  |"
    assert rows["--is-off"] == "| `--is-off`, `--no-more` | C. | on |"
    assert rows["--n"] == "| `--n`, `-m`, `--num` N | E. | the other's |"
    assert rows["--several"] == "| `--several` X | G; repeatable. |  |"
    assert rows["--own"] == "| `--own` | K. |  |"
    assert rows["--pair"] == "| `--pair` LOW HIGH | F. | (0.0, 1.0) |"
    hidden = section("x", asking)
    assert "| `--is-on`, `--no-is-on` | B. |  |" in hidden
    assert "| `--n`, `-m`, `--num` N | E. |  |" in hidden


def test_values_are_the_record_s() -> None:
    typed = Asked(
        place=Path("a/b"),
        is_on=False,
        automatic=True,
        pair=(0.5, 1.0),
        several=[1.0, 2.0],
        numbers="1/2 3",
        border="4",
        more=["a=1", "b=x"],
    )
    assert Record(**typed.values()) == Record(
        "a/b", False, True, True, None, (0.5, 1.0), (1.0, 2.0), (0.5, 3.0), 4, {"a": 1, "b": "x"}
    )
    assert Asked(border="auto").values() == {"border": "auto"}
    assert Asked().values() == given(Asked()) == {}
    assert Record(**RecordFlags().values()) == Record()


def test_a_type_that_nothing_typed_has_must_say_how() -> None:
    @dataclass(frozen=True)
    class Wrong:
        odd: Annotated[int | str, Knob(RUN, "A.")] = 1

    with pytest.raises(TypeError, match=r"^`odd`: expected one type or `typed`, got int \| str$"):
        type("WrongFlags", (Flags,), {}, record=Wrong)


def test_pairs_are_literals_or_words() -> None:
    pairs = ["a=1", "b=0.5", "c=True", "d=(1, 2)", "e=gelu", "f=", "g=x=y"]
    assert parse_pairs(pairs, "--x") == {
        "a": 1,
        "b": 0.5,
        "c": True,
        "d": (1, 2),
        "e": "gelu",
        "f": "",
        "g": "x=y",
    }


@pytest.mark.parametrize("pair", ["", "a", "=1", "a b=1"])
def test_what_is_no_pair_is_an_error(pair: str) -> None:
    with pytest.raises(UsageError, match=f"^`--x`: expected KEY=VALUE, got `{pair}`$"):
        parse_pairs([pair], "--x")


@pytest.mark.parametrize(
    ("text", "numbers"), [("0.5", (0.5,)), ("1, 2 3", (1.0, 2.0, 3.0)), ("1/255", (1 / 255,))]
)
def test_numbers(text: str, numbers: tuple[float, ...]) -> None:
    assert parse_numbers(text, "--mean") == numbers


@pytest.mark.parametrize("text", ["", "x", "1/0", "1/", "0.5;0.5"])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(UsageError, match="`--mean`: expected numbers, got"):
        parse_numbers(text, "--mean")
