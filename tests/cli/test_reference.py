from __future__ import annotations

import subprocess
import sys
from inspect import signature
from pathlib import Path

import pytest

from irbin.cli.app import COMMANDS
from irbin.cli.reference import (
    RECORDS,
    _options,
    main,
    options_table,
    reference,
    section,
    with_tables,
)


def test_the_page_is_current() -> None:
    page = Path(__file__).parents[2] / "docs" / "cli.md"
    assert page.read_text("utf-8") == reference(), (
        "write it again: python -m irbin.cli.reference > docs/cli.md"
    )


def test_the_tables_of_the_python_page_are_current() -> None:
    page = Path(__file__).parents[2] / "docs" / "python.md"
    text = page.read_text("utf-8")
    assert text.count("<!-- options: ") == text.count("<!-- end -->") == len(RECORDS)
    assert with_tables(text) == text, "write it again: python -m irbin.cli.reference docs/python.md"


def test_a_page_s_tables_are_written_in_place(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- options: PlanOptions -->\nold\n<!-- end -->\nb\n", "utf-8")
    main([str(page)])
    table = options_table(RECORDS["PlanOptions"])
    assert page.read_text("utf-8") == (
        f"a\n<!-- options: PlanOptions -->\n{table}\n<!-- end -->\nb\n"
    )


@pytest.mark.slow
def test_the_page_is_the_same_where_docstrings_are_thrown_away() -> None:
    done = subprocess.run(
        [sys.executable, "-OO", "-m", "irbin.cli.reference"], capture_output=True, check=True
    )
    assert done.stdout.decode() == reference()


def test_every_option_of_every_command_is_on_the_page(run) -> None:
    for name, command in COMMANDS.items():
        text = section(name, command)
        for parameter in signature(command).parameters.values():
            first = parameter.annotation.__metadata__[0]
            if type(first).__name__ == "OptionInfo":
                assert first.help.replace("\\[", "[") in text.replace("\\|", "|")
        assert text.startswith(f"## irbin {name}\n")


def test_names_are_those_that_the_command_takes(run) -> None:
    help_text = run("eval", "--help").out
    for flag in ("--val-split", "--split", "--batch-size", "-b", "-j", "--json", "--amp-dtype"):
        assert f"`{flag}`" in section("eval", COMMANDS["eval"])
        assert flag in help_text


TWO_MEANINGS = {
    "amp",
    "batch_size",
    "calibrate",
    "epochs",
    "out",
    "overwrite",
    "recipe",
    "resume",
    "seed",
}
"""What commands mean differently: a step's images and a call's, a folder and a picture …"""


def test_a_flag_says_the_same_in_every_command() -> None:
    said: dict[str, set[str | None]] = {}
    for command in COMMANDS.values():
        for parameter, info in _options(command):
            said.setdefault(parameter.name, set()).add(info.help)
    assert {name for name, texts in said.items() if len(texts) > 1} == TWO_MEANINGS
