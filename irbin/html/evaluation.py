"""Networks evaluated side by side, as a page: what was lost, what was gained, and on which images.

Made from what `irbin eval` shows as text, and from its answers to every image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from irbin.html.agreement import Pairs, agreement_blocks
from irbin.html.blocks import Block, Cell, Figure, Link, Page, Section, Table, Words, table
from irbin.html.charts import bars, reliability
from irbin.html.confusion import confusion_blocks
from irbin.html.examples import example_blocks, lost, surest_wrong
from irbin.html.verdict import short_name, subject_of, verdict
from irbin.messages import counted
from irbin.records.results import Evaluation
from irbin.report.evaluation import (
    feeding_lines,
    input_lines,
    kernel_lines,
    labels_of,
    margin_line,
    speed_line,
    unseen_line,
)
from irbin.report.labelled import compared_pair
from irbin.report.units import bare_percent, byte_size, count, number, percent, ratio

Shown = Mapping[int, NDArray[np.uint8]]
"""Image's place in the data set → its pixels, (height, width, channels)."""

MOST_CLASSES = 1000
"""Rows of the table by class; the file beside the page knows the others."""


def evaluation_page(
    evaluations: Sequence[Evaluation],
    agreements: Pairs,
    shown: Shown | None,
    beside: str | None,
) -> Page:
    """The page of one evaluation.

    Args:
        evaluations: of the same images, at least one; with answers, see `verbs.evaluate`.
        agreements: of the packed networks among them that stand beside a trained one.
        shown: pixels of the images that `wanted_images` names; None leaves images out.
        beside: name of the file with every image; None where there is none.
    """
    subject = evaluations[subject_of(evaluations)]
    images = counted(subject.n_images, "image")
    return Page(
        f"Evaluation of {short_name(subject.name)}",
        f"{counted(len(evaluations), 'network')} on {images}",
        (
            Section("Verdict", (Words(verdict(evaluations), "strong"),)),
            Section("Networks side by side", _side_by_side(evaluations)),
            Section("Packed = trained?", agreement_blocks(agreements)),
            Section("Confusion", confusion_blocks(evaluations)),
            Section("By class", _classes(evaluations)),
            Section("Calibration", _calibration(evaluations)),
            Section("Most confident wrong", _surest_wrong(evaluations, shown)),
            Section("Float right, binary wrong", _lost(evaluations, shown)),
            Section("All images", _all_images(subject, beside)),
        ),
        (*kernel_lines(evaluations), *feeding_lines(evaluations)),
    )


def wanted_images(evaluations: Sequence[Evaluation]) -> list[int]:
    """Places in the data set of the images that the page shows, each once, in order."""
    places = [i for i, _ in surest_wrong(evaluations[subject_of(evaluations)])]
    pair = compared_pair(evaluations)
    if pair is not None:
        places += [i for i, *_ in lost(evaluations[pair[0]], evaluations[pair[1]])]
    return sorted(set(places))


def _side_by_side(evaluations: Sequence[Evaluation]) -> tuple[Block, ...]:
    baseline = next((e.size_bytes for e in evaluations if e.kind == "float"), None)
    heads = ("network", "form", "top-1 %", "top-5 %", "loss", "size", "ratio", "images/s")
    rows = [
        (
            one.name,
            one.kind,
            Cell(f"{bare_percent(one.top1)} ± {one.top1_margin:.2f}", one.top1),
            Cell(f"{bare_percent(one.top5)} ± {one.top5_margin:.2f}", one.top5),
            Cell(number(one.loss), one.loss),
            Cell(byte_size(one.size_bytes), one.size_bytes),
            Cell(ratio(baseline or 4 * one.param_count, one.size_bytes), 1 / one.size_bytes),
            Cell(count(one.images_per_second), one.images_per_second),
        )
        for one in evaluations
    ]
    names = labels_of(evaluations)
    drawings = (
        bars(
            "top-1, %",
            [(n, e.top1) for n, e in zip(names, evaluations, strict=True)],
            bare_percent,
            [e.top1_margin for e in evaluations],
        ),
        bars(
            "size on disk, MB",
            [(n, e.size_bytes / 1e6) for n, e in zip(names, evaluations, strict=True)],
            lambda megabytes: byte_size(1e6 * megabytes),
        ),
        bars(
            "images a second",
            [(n, e.images_per_second) for n, e in zip(names, evaluations, strict=True)],
            count,
        ),
    )
    return (
        Figure("Accuracy, size and speed of each network.", drawings),
        table("Networks side by side.", heads, rows, numbers=heads[2:]),
        *(Words(line, "note") for line in input_lines(evaluations)),
        Words(f"{margin_line(evaluations)}. {speed_line(evaluations)}."),
    )


def _classes(evaluations: Sequence[Evaluation]) -> tuple[Block, ...]:
    """Precision, recall and F1 of the subject, and the recall of every other network."""
    place = subject_of(evaluations)
    subject, labels = evaluations[place], labels_of(evaluations)
    others = [(labels[i], e) for i, e in enumerate(evaluations) if i != place]
    if subject.counts is None:
        return (Words("Not counted: the network has too many classes."),)
    figures = list(subject.counts.figures())
    cut = len(figures) > MOST_CLASSES
    if cut:
        figures = sorted(figures, key=lambda one: one.f1)[:MOST_CLASSES]
    rows: list[tuple[str | Cell, ...]] = [
        (
            one.name,
            Cell(f"{one.n_images:,}", one.n_images),
            *(Cell(bare_percent(value), value) for value in (one.precision, one.recall, one.f1)),
            *(_percent_cell(e.per_class.get(one.name, math.nan)) for _, e in others),
        )
        for one in figures
    ]
    numbers = ("images", "precision %", "recall %", "F1 %", *(f"{n}, recall %" for n, _ in others))
    caption = f"By class, of {labels[place]}" + (
        ", beside the recall of the others." * bool(others)
    )
    if cut:
        caption += f" The {MOST_CLASSES:,} of lowest F1; every image is in the file below."
    unseen = unseen_line(evaluations)
    return (
        table(caption, ("class", *numbers), rows, numbers=numbers),
        *((Words(f"{unseen}.", "note"),) if unseen else ()),
    )


def _percent_cell(value: float) -> Cell:
    return Cell(bare_percent(value), value)


def _calibration(evaluations: Sequence[Evaluation]) -> tuple[Block, ...]:
    counted_ones = [
        (name, one.counts)
        for name, one in zip(labels_of(evaluations), evaluations, strict=True)
        if one.counts is not None
    ]
    if not counted_ones:
        return (Words("Not counted: the network has too many classes."),)
    drawings = tuple(reliability(name, counts) for name, counts in counted_ones)
    rows = [
        (name, Cell(f"{counts.calibration_error:.2f}", counts.calibration_error))
        for name, counts in counted_ones
    ]
    caption = (
        "How often answers are right, by how sure the network is of them. On the dashed line it is "
        "as often right as it says, below it too sure; darker bars hold more images."
    )
    heads = ("network", "error, points")
    below = "Expected calibration error: the mean distance from the line."
    errors: Table = table(below, heads, rows, numbers=heads[1:])
    return (Figure(caption, drawings), errors)


def _surest_wrong(evaluations: Sequence[Evaluation], shown: Shown | None) -> tuple[Block, ...]:
    place = subject_of(evaluations)
    subject, name = evaluations[place], labels_of(evaluations)[place]
    if subject.answers is None:
        return (Words("Answers to single images were not kept."),)
    examples = [
        (i, one, (f"{name}: {best.name}, {percent(100 * best.probability)}",))
        for i, one in surest_wrong(subject)
        for best in one.told.best[:1]
    ]
    n_wrong = sum(not one.is_right for one in subject.answers)
    caption = (
        f"Of {counted(n_wrong, 'image')} that {name} answers wrong, the {len(examples)} of whose "
        "answers it is most sure: an odd label, often."
    )
    return example_blocks(examples, caption, "No image was answered wrong.", shown)


def _lost(evaluations: Sequence[Evaluation], shown: Shown | None) -> tuple[Block, ...]:
    pair, names = compared_pair(evaluations), labels_of(evaluations)
    if pair is None:
        return (
            Words("That takes a float and a binary or packed network: `irbin eval FLOAT PACKED`."),
        )
    base, other = (evaluations[i] for i in pair)
    if base.answers is None or other.answers is None:
        return (Words("Answers to single images were not kept."),)
    examples = []
    for i, before, after in lost(base, other):
        was, now = before.told.best[0], after.told.best[:1]
        lines = [f"{names[pair[0]]}: {was.name}, {percent(100 * was.probability)}"]
        lines += [f"{names[pair[1]]}: {a.name}, {percent(100 * a.probability)}" for a in now]
        examples.append((i, before, tuple(lines)))
    both = list(zip(base.answers, other.answers, strict=True))
    n_lost = sum(a.is_right and not b.is_right for a, b in both)
    n_gained = sum(b.is_right and not a.is_right for a, b in both)
    caption = (
        f"{counted(n_lost, 'image')} that {names[pair[0]]} answers right and {names[pair[1]]} "
        f"wrong ({n_gained:,} the other way round); here the {len(examples)} of which "
        f"{names[pair[0]]} is most sure."
    )
    return example_blocks(examples, caption, "There is none.", shown)


def _all_images(subject: Evaluation, beside: str | None) -> tuple[Block, ...]:
    if beside is None:
        return (Words("No file was written."),)
    return (
        Words(
            f"A row for each of {counted(subject.n_images, 'image')}: file, class, and what each "
            "network says of it, in a file beside this one:"
        ),
        Link(beside, beside),
    )
