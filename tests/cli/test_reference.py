from __future__ import annotations

import subprocess
import sys
from inspect import signature
from pathlib import Path

from irbin.cli.app import COMMANDS
from irbin.cli.reference import reference, section


def test_the_page_is_current() -> None:
    page = Path(__file__).parents[2] / "docs" / "cli.md"
    assert page.read_text("utf-8") == reference(), (
        "write it again: python -m irbin.cli.reference > docs/cli.md"
    )


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
