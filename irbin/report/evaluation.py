"""Evaluations side by side, their classes, and how packed and trained networks agree."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.cells import cell_len
from rich.table import Table

from irbin.messages import counted, names_of
from irbin.records.results import Agreement, Evaluation
from irbin.report.fitting import BETWEEN, fitting_table
from irbin.report.images import feeding_line
from irbin.report.units import bare_percent, byte_size, count, number, percent, ratio

MAX_CLASSES = 20
"""Longest per-class table that is shown whole; above it, only the worst and best classes."""
N_ENDS = 5
"""Classes shown at either end of a table that is cut."""
MAX_DISAGREEMENTS = 10
"""Images explained on the screen; all of them are in the JSON."""


def accuracy_table(evaluations: Sequence[Evaluation], width: int) -> Table:
    """One row a network: top-1, top-5 (per cent), loss, size, and how much smaller it is.

    What stands behind ± is half of the interval that holds 95 %, see `records.counts.margin`.

    The ratio is to the first float network's size; without one, to its own float32 parameters.
    Names stay whole: where there is no room for a column, it is left out; the JSON has it.
    """
    counts = {e.n_images for e in evaluations}
    title = f"on {counted(counts.pop(), 'image')}" if len(counts) == 1 else None
    numbers = ["top-1 %", "top-5 %", "loss", "size", "ratio", "images/s"]
    if title is None:
        numbers.append("images")
    baseline = next((e.size_bytes for e in evaluations if e.kind == "float"), None)
    rows = [
        [
            e.name,
            e.kind,
            f"{bare_percent(e.top1)}±{e.top1_margin:.2f}",
            bare_percent(e.top5),
            f"{e.loss:.4f}",
            byte_size(e.size_bytes),
            ratio(baseline or 4 * e.param_count, e.size_bytes),
            count(e.images_per_second),
            *([f"{e.n_images:,}"] if title is None else ()),
        ]
        for e in evaluations
    ]
    gone_first = ("images/s", "ratio", "loss", "top-5 %", "size", "images", "form")
    return fitting_table(
        ("network", "form", *numbers),
        rows,
        width,
        numbers=numbers,
        title=title,
        left_out=[head for head in gone_first if head in ("form", *numbers)],
    )


def feeding_lines(evaluations: Sequence[Evaluation]) -> list[str]:
    """How images were fed, a line for all networks that were fed alike."""
    groups: dict[str, list[str]] = {}
    for e in evaluations:
        groups.setdefault(feeding_line(e.preprocessing, e.stated_by), []).append(e.name)
    if len(groups) == 1:
        return list(groups)
    return [f"{', '.join(names)}: {line}" for line, names in groups.items()]


def kernel_lines(evaluations: Sequence[Evaluation]) -> list[str]:
    """Which kernels ran packed networks; nothing where none was run."""
    ran = dict.fromkeys(e.kernels for e in evaluations if e.kernels)
    return [f"packed networks ran on {kernels}" for kernels in ran]


def input_lines(evaluations: Sequence[Evaluation], *, compared: bool = False) -> list[str]:
    """Which packed networks were given bytes; nothing where none was.

    Args:
        evaluations: of all networks.
        compared: with trained ones, image by image.
    """
    if not any(e.input_type == "bytes" for e in evaluations):
        return []
    kept = "comparisons with trained networks are of those" if compared else "a trained one's input"
    return [
        "packed networks read images as bytes, by weights of 16 bits in their first layers; "
        f"`--input-type float32` gives them normalized floats ({kept})"
    ]


def speed_line(evaluations: Sequence[Evaluation]) -> str:
    """What `images/s` counts, and how many it was with decoding."""
    decoded = ", ".join(count(e.images_per_second_decoded) for e in evaluations)
    return f"images/s: of the network alone; with decoding and waiting for images {decoded}"


def margin_line(evaluations: Sequence[Evaluation]) -> str:
    """What stands behind ±, and what would stand behind top-5."""
    margins = ", ".join(f"±{e.top5_margin:.2f}" for e in evaluations)
    return f"±: the interval that chance in drawing images leaves, at 95 %; of top-5 {margins}"


def calibration_line(evaluations: Sequence[Evaluation]) -> str:
    """How far confidence is from accuracy, of every network; '' where none was counted."""
    errors = [f"{bare_percent(e.counts.calibration_error)}" for e in evaluations if e.counts]
    return f"expected calibration error {', '.join(errors)} %" if errors else ""


def confusion_lines(evaluations: Sequence[Evaluation], most: int = 3) -> list[str]:
    """Which classes each network takes for which most often; nothing where none is."""
    lines = []
    for label, evaluation in zip(labels_of(evaluations), evaluations, strict=True):
        wrong = evaluation.counts.confusions()[:most] if evaluation.counts else []
        if wrong:
            told = ", ".join(f"{one} for {other} {n:,}×" for other, one, n in wrong)
            lines.append(f"{label} most often answers {told}")
    return lines


def unseen_line(evaluations: Sequence[Evaluation]) -> str:
    """Which classes had no image, of which nothing is known; '' where all had, or none is known."""
    counts = next((e.counts for e in evaluations if e.counts is not None), None)
    unseen = counts.unseen() if counts is not None else ()
    if counts is None or not unseen:
        return ""
    have = "has" if len(unseen) == 1 else "have"
    return (
        f"{len(unseen):,} of {counted(len(counts.class_names), 'class')} {have} no image: "
        f"{names_of(unseen)}"
    )


def figures_table(evaluation: Evaluation, width: int) -> Table | None:
    """Images, precision, recall and F1 by class of one network; None without counts.

    With more than `MAX_CLASSES` classes, those of the worst and the best F1 are shown.
    """
    if evaluation.counts is None:
        return None
    figures = list(evaluation.counts.figures())
    cut = len(figures) > MAX_CLASSES
    if cut:
        figures.sort(key=lambda one: one.f1)
    rows = [
        [one.name, f"{one.n_images:,}", *map(bare_percent, (one.precision, one.recall, one.f1))]
        for one in figures
    ]
    if cut:
        between = [f"… {len(rows) - 2 * N_ENDS} more", "", "", "", ""]
        rows = [*rows[:N_ENDS], between, *rows[-N_ENDS:]]
    numbers = ("images", "precision %", "recall %", "F1 %")
    return fitting_table(
        ("class", *numbers), rows, width, left_out=("images",), numbers=numbers, title="by class"
    )


def class_table(evaluations: Sequence[Evaluation], width: int) -> Table | None:
    """Top-1 in per cent by class, one column a network; None where no class is known.

    With more than `MAX_CLASSES` classes, the worst and the best of the first network are shown.
    Where the networks have no room, they are numbered; where numbers have none, the last go.
    """
    names = list(dict.fromkeys(name for e in evaluations for name in e.per_class))
    if not names:
        return None
    cut = len(names) > MAX_CLASSES
    if cut:
        scores = evaluations[0].per_class
        names.sort(key=lambda name: scores.get(name, 0.0))
    rows = [
        [name, *(bare_percent(e.per_class.get(name, math.nan)) for e in evaluations)]
        for name in names
    ]
    if cut:
        between = [f"… {len(rows) - 2 * N_ENDS} more", *[""] * len(evaluations)]
        rows = [*rows[:N_ENDS], between, *rows[-N_ENDS:]]
    labels, title = labels_of(evaluations), "top-1 % by class"
    if _needed(labels) + max(cell_len(row[0]) for row in rows) > width:
        labels = [str(i) for i in range(1, len(evaluations) + 1)]
        title += ", networks numbered as in the last table"
    return fitting_table(
        ("class", *labels), rows, width, left_out=labels[:0:-1], numbers=labels, title=title
    )


def _needed(labels: Sequence[str]) -> int:
    """Columns of the screen that networks take beside the classes' names."""
    return sum(max(len("100.00"), cell_len(label)) + BETWEEN for label in labels)


def labels_of(evaluations: Sequence[Evaluation]) -> list[str]:
    """What tells the networks apart: their forms, the last parts of their names, their numbers."""
    kinds: list[str] = [e.kind for e in evaluations]
    if len(set(kinds)) == len(kinds):
        return kinds
    last = [f"{e.name.rstrip('/').rsplit('/', 1)[-1]} ({e.kind})" for e in evaluations]
    if len(set(last)) == len(last):
        return last
    return [f"{i} {name}" for i, name in enumerate(last, 1)]


def agreement_lines(binary: str, packed: str, agreement: Agreement) -> list[str]:
    """Sentences: equal top-1, largest difference of a logit, flipped signs."""
    n_signs = sum(layer.n_signs for layer in agreement.layers)
    n_flipped = sum(layer.n_flipped for layer in agreement.layers)
    images, value = f"{counted(agreement.n_images, 'image')}", "a logit"
    if agreement.equal_top1 is None:
        compared, value = f"  {images}, no top-1 without a classifier", "an output"
    else:
        compared = f"  equal top-1 on {percent(agreement.equal_top1)} of {images}"
    return [
        f"{packed} against {binary}:",
        compared,
        f"  largest difference of {value} {number(agreement.max_difference)}",
        f"  {n_flipped:,} of {counted(n_signs, 'sign')} flipped",
    ]


def flips_table(agreement: Agreement, width: int) -> Table | None:
    """The layers in which signs flipped; None if none did."""
    flipped = [layer for layer in agreement.layers if layer.n_flipped]
    if not flipped:
        return None
    numbers = ("signs", "flipped", "largest |x| flipped")
    rows = [
        [layer.name, f"{layer.n_signs:,}", f"{layer.n_flipped:,}", number(layer.largest_flipped)]
        for layer in flipped
    ]
    return fitting_table(
        ("layer", *numbers),
        rows,
        width,
        numbers=numbers,
        title="flipped signs by layer",
        left_out=("signs", "largest |x| flipped"),
    )


def disagreement_table(agreement: Agreement, width: int) -> Table | None:
    """The images whose top-1 differs, by index, each explained; None if there are none."""
    n_all = len(agreement.disagreements)
    if not n_all:
        return None
    shown = agreement.disagreements[:MAX_DISAGREEMENTS]
    rows = [
        [
            f"{d.index:,}",
            str(d.binary_class),
            str(d.packed_class),
            number(d.margin),
            d.explanation,
        ]
        for d in shown
    ]
    if n_all > len(shown):
        rows.append(["…", "", "", "", f"{n_all - len(shown):,} more; all are in the JSON"])
    numbers = ("image", "binary", "packed", "margin")
    return fitting_table(
        (*numbers, "why"),
        rows,
        width,
        numbers=numbers,
        wrapped=("why",),
        left_out=("margin",),
        title="images whose top-1 differs",
    )
