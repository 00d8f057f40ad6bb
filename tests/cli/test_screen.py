"""What a file holds does not steer the terminal."""

from __future__ import annotations

import io

import pytest
from rich.table import Table

from irbin.cli.console import results, say
from irbin.cli.screen import Screen

PLANTED = "cat\x1b[2J\x1b]0;mine\x07\x9b31m\r\x7f"


@pytest.mark.parametrize("in_table", [False, True])
def test_control_characters_are_shown_and_not_sent(in_table: bool) -> None:
    screen = Screen(file=io.StringIO(), width=80)
    shown: object = PLANTED
    if in_table:
        shown = Table(PLANTED)
        shown.add_row(PLANTED)
    screen.print(shown, markup=False)
    sent = screen.file.getvalue()
    assert "cat␛[2J␛]0;mine" in sent
    assert not [c for c in sent if (ord(c) < 0x20 and c != "\n") or 0x7F <= ord(c) < 0xA0]


def test_its_own_are_sent() -> None:
    screen = Screen(file=io.StringIO(), force_terminal=True, color_system="truecolor")
    say(screen, "tabs\tstay", style="red")
    assert "\x1b[31m" in screen.file.getvalue()
    screen.show_cursor(False)
    assert "\x1b[?25l" in screen.file.getvalue()


def test_commands_print_on_such_a_screen(capsys) -> None:
    say(results(), PLANTED)
    assert "\x1b" not in capsys.readouterr().out
