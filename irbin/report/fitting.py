"""Tables whose names stay whole on any screen: what there is no room for is left out."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from irbin.report.plan import plain_table

_BETWEEN = 2
"""Columns of the screen between two of the table."""


def fitting_table(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int,
    *,
    left_out: Sequence[str],
    numbers: Sequence[str] = (),
    wrapped: Sequence[str] = (),
    dim: Sequence[int] = (),
) -> Table:
    """A table in irbin's look, at most `width` columns wide; cells are text without markup.

    Args:
        heads: of the columns; the first one stays.
        rows: a cell for each head.
        width: of the screen.
        left_out: heads that go where there is no room, the first one first.
        numbers: heads of columns that stand to the right.
        wrapped: heads of columns that may be broken between words.
        dim: positions of rows that matter less.
    """
    least = {
        column[0]: max(map(_longest_word if column[0] in wrapped else cell_len, column))
        for column in zip(heads, *rows, strict=True)
    }
    shown = list(heads)
    for head in left_out:
        if sum(least[h] + _BETWEEN for h in shown) - _BETWEEN > width:
            shown.remove(head)
    whole = sum(least[h] + _BETWEEN for h in shown) - _BETWEEN <= width
    table = plain_table()
    for head in shown:
        table.add_column(
            head,
            justify="right" if head in numbers else "left",
            no_wrap=whole and head not in wrapped,
            min_width=least[head] if whole else None,
            overflow="fold",
        )
    for i, row in enumerate(rows):
        cells = (Text(cell) for head, cell in zip(heads, row, strict=True) if head in shown)
        table.add_row(*cells, style="dim" if i in dim else None)
    return table


def _longest_word(text: str) -> int:
    return max(map(cell_len, text.split()), default=0)
