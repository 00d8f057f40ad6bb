"""Tables that leave columns out before they break a name."""

from __future__ import annotations

import pytest

from irbin.report.fitting import fitting_table

ROWS = [("a-long-name", "12", "some words here"), ("[b]", "3", "")]


@pytest.mark.parametrize(
    ("width", "heads"),
    [(80, "name n told"), (22, "name n told"), (21, "name n"), (15, "name n"), (14, "name")],
)
def test_what_has_no_room_is_left_out(render, width: int, heads: str) -> None:
    table = fitting_table(
        ("name", "n", "told"),
        ROWS,
        width,
        left_out=("told", "n"),
        numbers=("n",),
        wrapped=("told",),
    )
    text = render(table, width)
    assert text.splitlines()[0].split() == heads.split()
    assert "a-long-name" in text
    assert "[b]" in text
    assert max(map(len, text.splitlines())) <= width


def test_a_screen_narrower_than_a_name_breaks_it_and_loses_nothing(render) -> None:
    text = render(fitting_table(("name", "n"), [("abcdefgh", "1")], 4, left_out=("n",)), 4)
    assert "".join(text.split()[2:]) == "abcdefgh"


def test_no_rows(render) -> None:
    assert len(render(fitting_table(("name",), [], 80, left_out=()), 80).splitlines()) == 2
