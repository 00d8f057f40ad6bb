"""What a page is made of, as plain values: sections, and in them words, tables, figures, pictures.

Pages are functions from records to these; `page.html` alone knows how they look.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

Tone = Literal["plain", "strong", "good", "bad", "note"]


@dataclass(frozen=True)
class Cell:
    """Of a table."""

    text: str
    """Shown."""
    value: float | None = None
    """What it is sorted by, where that is not the text."""
    tone: Tone = "plain"
    """How it is colored; the text says the same."""
    heat: float | None = None
    """0 to 1, how strongly its ground is colored by its tone; None leaves it."""


@dataclass(frozen=True)
class Words:
    """A paragraph; what stands in backticks is shown as code."""

    text: str
    tone: Tone = "plain"
    kind: ClassVar[str] = "words"


@dataclass(frozen=True)
class Table:
    """Rows under heads, with a caption; the first cell of a row is its head."""

    caption: str
    heads: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    numbers: frozenset[int] = frozenset()
    """Columns that are aligned on the right."""
    sortable: bool = True
    square: bool = False
    """A count of classes against classes: narrow cells, heads that stand upright."""
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Drawing:
    """One SVG."""

    svg: str
    """As `svg.drawn` gives it."""
    width: float
    """Widest that it is shown, CSS pixels."""
    alt: str
    """What is to be seen, for those who do not see it."""
    title: str = ""
    """Above it."""


@dataclass(frozen=True)
class Figure:
    """Drawings beside each other under one caption."""

    caption: str
    drawings: tuple[Drawing, ...]
    legend: tuple[tuple[int, bool, str], ...] = ()
    """(number of its color, dashed, what it is) of lines that all drawings share."""
    kind: ClassVar[str] = "figure"


@dataclass(frozen=True)
class Picture:
    """An image of a data set with what was said of it."""

    uri: str
    """`data:` and its bytes."""
    size: tuple[int, int]
    """(width, height), pixels."""
    small: bool
    """Shown enlarged, pixel by pixel."""
    name: str
    """Of the file."""
    lines: tuple[str, ...]
    """Below it."""


@dataclass(frozen=True)
class Pictures:
    """Images in rows."""

    caption: str
    items: tuple[Picture, ...]
    kind: ClassVar[str] = "pictures"


@dataclass(frozen=True)
class Command:
    """What is to be typed."""

    line: str
    kind: ClassVar[str] = "command"


@dataclass(frozen=True)
class Link:
    """A file that lies beside the page."""

    file: str
    """Its name, without a folder."""
    text: str
    kind: ClassVar[str] = "link"


@dataclass(frozen=True)
class Folded:
    """What is shown when asked for, and in print."""

    summary: str
    blocks: tuple[Block, ...]
    kind: ClassVar[str] = "folded"


Block = Words | Table | Figure | Pictures | Command | Link | Folded


@dataclass(frozen=True)
class Section:
    """A head and what follows it."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Page:
    """One file."""

    title: str
    about: str
    """Below the title: of what, in a few words."""
    sections: tuple[Section, ...]
    made: tuple[str, ...] = ()
    """How it came about, at the end: machine, versions."""


def table(
    caption: str,
    heads: Sequence[str],
    rows: Sequence[Sequence[str | Cell]],
    *,
    numbers: Collection[str] = (),
    sortable: bool = True,
) -> Table:
    """A table of words and cells.

    Args:
        caption: above it.
        heads: of its columns.
        rows: as long as the heads.
        numbers: heads of columns that are aligned on the right.
        sortable: by any column, where the browser runs scripts.
    """
    return Table(
        caption,
        tuple(heads),
        tuple(tuple(one if isinstance(one, Cell) else Cell(one) for one in row) for row in rows),
        frozenset(i for i, head in enumerate(heads) if head in numbers),
        sortable and len(rows) > 1,
    )
