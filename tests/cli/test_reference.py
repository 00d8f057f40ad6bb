from __future__ import annotations

from inspect import signature
from pathlib import Path

import irbin
from irbin.cli.app import COMMANDS
from irbin.cli.reference import reference, section


def test_the_page_is_current() -> None:
    page = Path(irbin.__file__).parents[1] / "docs" / "cli.md"
    assert page.read_text("utf-8") == reference(), (
        "write it again: python -m irbin.cli.reference > docs/cli.md"
    )


def test_every_option_of_every_command_is_on_the_page(run) -> None:
    for name, command in COMMANDS.items():
        text = section(name, command)
        for parameter in signature(command).parameters.values():
            first = parameter.annotation.__metadata__[0]
            if type(first).__name__ == "OptionInfo":
                assert parameter.annotation.__metadata__[0].help in text.replace("\\|", "|")
        assert text.startswith(f"## irbin {name}\n")


def test_names_are_those_that_the_command_takes(run) -> None:
    help_text = run("eval", "--help").out
    for flag in ("--val-split", "--split", "--batch-size", "-b", "-j", "--json", "--amp-dtype"):
        assert f"`{flag}`" in section("eval", COMMANDS["eval"])
        assert flag in help_text
