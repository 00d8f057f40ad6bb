"""Whether packed networks answer as the trained ones that they were exported from."""

from __future__ import annotations

from collections.abc import Mapping

from irbin.html.blocks import Block, Cell, Words, table
from irbin.records.results import Agreement
from irbin.report.evaluation import agreement_lines
from irbin.report.units import number

Pairs = Mapping[str, tuple[str, Agreement]]
"""Packed network's name → (trained network's name, comparison)."""
MOST_APART = 50
"""Images explained on which packed and trained network differ."""


def agreement_blocks(agreements: Pairs) -> tuple[Block, ...]:
    """A sentence a pair, the layers in which signs flipped, and images that differ, explained."""
    if not agreements:
        return (
            Words(
                "Not compared: that takes a trained binary network and the packed one that was "
                "exported from it side by side, `irbin eval RUN PACKED`."
            ),
        )
    blocks: list[Block] = []
    for packed, (trained, one) in agreements.items():
        head, *facts = (line.strip() for line in agreement_lines(trained, packed, one))
        same = one.equal_top1 == 100
        verdict = "Yes" if same else "Not on every image"
        blocks.append(Words(f"{verdict}: {head} {'; '.join(facts)}.", "good" if same else "note"))
        blocks += _flips(one)
        blocks += _apart(one)
    return tuple(blocks)


def _flips(one: Agreement) -> list[Block]:
    rows = [
        (
            layer.name,
            Cell(f"{layer.n_signs:,}", layer.n_signs),
            Cell(f"{layer.n_flipped:,}", layer.n_flipped),
            Cell(number(layer.largest_flipped), layer.largest_flipped),
        )
        for layer in one.layers
        if layer.n_flipped
    ]
    heads = ("layer", "signs", "flipped", "largest |x| flipped")
    caption = "Layers in which signs of inputs flipped: values so near zero that rounding decides."
    return [table(caption, heads, rows, numbers=heads[1:])] if rows else []


def _apart(one: Agreement) -> list[Block]:
    some = one.disagreements[:MOST_APART]
    rows = [
        (
            Cell(f"{d.index:,}", d.index),
            str(d.binary_class),
            str(d.packed_class),
            Cell(number(d.margin), d.margin),
            d.explanation,
        )
        for d in some
    ]
    heads = ("image", "trained", "packed", "margin", "why")
    more = len(one.disagreements) - len(some)
    caption = "Images whose top-1 differs, by place in the data set, with classes by number."
    caption += f" {more:,} more are in the JSON." if more else ""
    return [table(caption, heads, rows, numbers=("image", "margin"))] if rows else []
