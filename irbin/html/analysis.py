"""How a network bears binarization as a page: the way down, every layer, the next command."""

from __future__ import annotations

import math

from irbin.html.blocks import Block, Cell, Command, Figure, Page, Section, Words, table
from irbin.html.charts import bars
from irbin.html.layers import Part, beside, finite, stacked
from irbin.html.plan import ESTIMATE, SECTIONS
from irbin.html.words import sentence
from irbin.messages import counted
from irbin.records.analysis import Analysis, PathPoint
from irbin.report.analysis import analysis_heading, proposal_line
from irbin.report.units import DASH, bare_percent, byte_size, digits, number


def analysis_page(record: Analysis, command: str | None) -> Page:
    """The page of how a network bears binarization.

    Args:
        record: measured, perhaps not to its end.
        command: that carries the proposal out; None where there is none.
    """
    sections = (
        _way_down(record),
        _losses(record),
        (_ranking(record), *(Words(note, "note") for note in record.notes)),
        (Words(_sampled(record)), Words(ESTIMATE)),
        (Command(command),)
        if command is not None
        else (
            Words(
                f"{record.unmet}."
                if record.unmet
                else "No budget was given: `--max-bytes`, "
                "`--max-latency` or `--max-drop` proposes what to keep float."
            ),
        ),
    )
    titled = (Section(t, blocks) for t, blocks in zip(SECTIONS, sections, strict=True))
    return Page(f"Analysis of {record.source}", analysis_heading(record), tuple(titled))


def _way_down(record: Analysis) -> tuple[Block, ...]:
    points = [(_point_name(i, record), point) for i, point in enumerate(record.path)]
    blocks: list[Block] = []
    if record.proposal is not None:
        points.append(("proposed", record.proposal.point))
        blocks.append(Words(sentence(proposal_line(record.proposal)), "strong"))
    if record.interrupted:
        blocks.append(Words("Stopped by Ctrl-C: this is what was measured until then.", "note"))
    if not points:
        return (*blocks, Words("No network was measured."))
    drawings = (
        bars("top-1 on the sample, %", [(n, p.top1) for n, p in points], bare_percent),
        bars(
            "size, MB",
            [(n, p.packed_bytes / 1e6) for n, p in points],
            lambda megabytes: byte_size(1e6 * megabytes),
        ),
        bars("estimated time of an image, ms", [(n, 1e3 * p.seconds) for n, p in points], digits),
    )
    heads = ("network", "binary layers", "size", "≈ ms", "top-1 %", "loss", "front")
    rows: list[tuple[str | Cell, ...]] = [(name, *_point(point)) for name, point in points]
    caption = (
        "From the float network to a binary one, before any training; ● no other is as small and "
        "as accurate."
    )
    return (
        *blocks,
        Figure("More and more layers binary, in the order of the ranking.", drawings),
        table(caption, heads, rows, numbers=heads[1:-1]),
    )


def _point_name(place: int, record: Analysis) -> str:
    if place == 0:
        return "float"
    is_last = place == len(record.path) - 1 and not record.interrupted
    return "all binary" if is_last else f"{record.path[place].n_binary} binary"


def _point(point: PathPoint) -> tuple[Cell, ...]:
    return (
        Cell(str(point.n_binary), point.n_binary),
        Cell(byte_size(point.packed_bytes), point.packed_bytes),
        Cell(digits(1e3 * point.seconds), point.seconds),
        Cell(bare_percent(point.top1), point.top1),
        Cell(digits(point.loss), point.loss),
        Cell("●" if point.on_front else ""),
    )


def _losses(record: Analysis) -> tuple[Block, ...]:
    if not record.layers:
        return (Words("No layer was measured."),)
    names = [one.name for one in record.layers]
    losses = [finite(one.loss_increase) for one in record.layers]
    margins = [finite(one.standard_error) for one in record.layers]
    saved = [one.bytes_saved / 1e3 for one in record.layers]
    drawings = (
        beside(
            "loss added where it alone is binary, nats",
            names,
            Part("loss", 3, losses),
            Part("", 0, ()),
            margins,
        ),
        stacked("size saved, kB", names, (Part("saved", 2, saved),)),
    )
    return (Figure(f"A bar a {record.by}; whiskers are standard errors.", drawings),)


def _ranking(record: Analysis) -> Block:
    heads = (record.by, "loss", "±", "top-1 %", "saves", "saves ≈ µs", "plan")
    rows = [
        (
            one.name,
            Cell(_signed(one.loss_increase), one.loss_increase),
            Cell(number(one.standard_error), one.standard_error),
            Cell(bare_percent(one.top1), one.top1),
            Cell(byte_size(one.bytes_saved), one.bytes_saved),
            Cell(f"{1e6 * one.seconds_saved:,.0f}", one.seconds_saved),
            Cell("") if record.proposal is None else _fate(one.layers[0], record.proposal.binary),
        )
        for one in record.layers
    ]
    by = "time" if record.ranked_by == "time" else "byte"
    caption = f"What costs least loss for each {by} saved comes first."
    return table(caption, heads, rows, numbers=heads[1:-1])


def _signed(value: float) -> str:
    return f"{value:+.3f}" if math.isfinite(value) else DASH


def _fate(layer: str, binary: tuple[str, ...]) -> Cell:
    return Cell("binary", tone="good") if layer in binary else Cell("float", tone="note")


def _sampled(record: Analysis) -> str:
    return (
        f"Losses are of {counted(record.n_images, 'image')}, the same for every network, without "
        "any training: they order layers, and say little of the accuracy after it. ± is the "
        "standard error over images."
    )
