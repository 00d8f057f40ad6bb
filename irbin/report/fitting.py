"""Tables whose names stay whole on any screen: what there is no room for is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich import box
from rich.bar import Bar
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

Cell = str | Text | Bar
"""What stands in a table; text is no markup."""
BETWEEN = 2
"""Columns of the screen between two of the table."""


def plain_table(title: str | None = None) -> Table:
    """The look that all of irbin's tables share: a rule under the head and nothing else."""
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        show_edge=False,
        header_style="bold",
    )


def fitting_table(
    heads: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    width: int,
    *,
    left_out: Sequence[str],
    numbers: Sequence[str] = (),
    wrapped: Sequence[str] = (),
    styles: Mapping[int, str] | None = None,
    title: str | None = None,
) -> Table:
    """A table in irbin's look, at most `width` columns wide.

    Args:
        heads: of the columns; the first one stays.
        rows: a cell for each head.
        width: of the screen.
        left_out: heads that go where there is no room, the first one first.
        numbers: heads of columns that stand to the right.
        wrapped: heads of columns that may be broken between words.
        styles: of rows that matter less or more, by their position: `dim`, `bold`.
        title: above the table.
    """
    least = {
        column[0]: max(map(_longest_word if column[0] in wrapped else _width, column))
        for column in zip(heads, *rows, strict=True)
    }
    shown = list(heads)
    for head in left_out:
        if sum(least[h] + BETWEEN for h in shown) - BETWEEN > width:
            shown.remove(head)
    whole = sum(least[h] + BETWEEN for h in shown) - BETWEEN <= width
    table = plain_table(title)
    for head in shown:
        table.add_column(
            head,
            justify="right" if head in numbers else "left",
            no_wrap=whole and head not in wrapped,
            min_width=least[head] if whole else None,
            overflow="fold",
        )
    for i, row in enumerate(rows):
        cells = (cell for head, cell in zip(heads, row, strict=True) if head in shown)
        table.add_row(
            *(Text(cell) if isinstance(cell, str) else cell for cell in cells),
            style=(styles or {}).get(i),
        )
    return table


def _width(cell: Cell) -> int:
    if isinstance(cell, Bar):
        return cell.width or 1
    return cell_len(str(cell))


def _longest_word(cell: Cell) -> int:
    return max(map(cell_len, str(cell).split()), default=0)
