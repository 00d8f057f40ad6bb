"""Which classes are taken for which: a square of few classes, a list of many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from irbin.html.blocks import Block, Cell, Folded, Table, Words, table
from irbin.html.svg import label
from irbin.html.verdict import subject_of
from irbin.records.counts import Counts
from irbin.records.results import Evaluation
from irbin.report.evaluation import labels_of
from irbin.report.labelled import compared_pair
from irbin.report.units import percent

MOST_SQUARE = 30
"""Classes up to which every pair is shown."""
N_LARGEST = 50
"""Pairs shown of more."""


def confusion_blocks(evaluations: Sequence[Evaluation]) -> tuple[Block, ...]:
    """Of the network that the page is about, and folded that of the float one beside it."""
    labels = labels_of(evaluations)
    first = subject_of(evaluations)
    counts = evaluations[first].counts
    if counts is None:
        return (Words("Not counted: the network has too many classes."),)
    blocks: list[Block] = [_shown(labels[first], counts)]
    pair = compared_pair(evaluations)
    beside = None if pair is None else evaluations[pair[0]].counts
    if pair is not None and beside is not None and pair[0] != first:
        name = labels[pair[0]]
        blocks.append(Folded(f"The same of {name}", (_shown(name, beside),)))
    return tuple(blocks)


def _shown(name: str, counts: Counts) -> Table:
    n_classes = len(counts.figures())
    return _square(name, counts) if n_classes <= MOST_SQUARE else _largest(name, counts)


def _square(name: str, counts: Counts) -> Table:
    numbers = {(of, answer): n for of, answer, n in counts.pairs}
    used = sorted({i for of, answer, _ in counts.pairs for i in (of, answer)})
    rows = []
    for i, of_class in zip(used, counts.figures(), strict=True):
        cells = [Cell(of_class.name)]
        for j in used:
            n = numbers.get((i, j), 0)
            if not n:
                cells.append(Cell("·"))
                continue
            share = n / of_class.n_images
            heat = share if i == j else min(1.0, 4 * share)
            cells.append(Cell(f"{n:,}", n, "good" if i == j else "bad", heat))
        rows.append(tuple(cells))
    heads = (
        "class\N{NO-BREAK SPACE}↓, answer\N{NO-BREAK SPACE}→",
        *(label(counts.class_names[i], 20) for i in used),
    )
    caption = (
        f"{name}: images by class (rows) and answer (columns). Right answers lie on the diagonal; "
        "the stronger the color, the larger the share of the row, wrong ones four times as strong."
    )
    made = table(caption, heads, rows, numbers=heads[1:], sortable=False)
    return replace(made, numbers=frozenset(range(1, len(heads))), square=True)


def _largest(name: str, counts: Counts) -> Table:
    images = {one.name: one.n_images for one in counts.figures()}
    wrong = counts.confusions()
    rows = [
        (
            of,
            answer,
            Cell(f"{n:,}", n),
            Cell(percent(100 * n / images[of]), n / images[of]) if images[of] else Cell(""),
        )
        for of, answer, n in wrong[:N_LARGEST]
    ]
    caption = f"{name}: the {len(rows)} most frequent of {len(wrong):,} confusions."
    heads = ("class", "taken for", "images", "of the class")
    return table(caption, heads, rows, numbers=heads[2:])
