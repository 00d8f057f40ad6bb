"""Evaluations side by side, their classes, and how packed and trained networks agree."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from irbin.records.results import Agreement, Evaluation
from irbin.report.images import feeding_line
from irbin.report.plan import plain_table
from irbin.report.units import bare_percent, byte_size, count, number, percent, ratio

MAX_CLASSES = 20
"""Longest per-class table that is shown whole; above it, only the worst and best classes."""
N_ENDS = 5
"""Classes shown at either end of a table that is cut."""
_WIDEST = 56
"""Characters of all heads together that leave room for the classes' names on 80 columns."""
MAX_DISAGREEMENTS = 10
"""Images explained on the screen; all of them are in the JSON."""


def accuracy_table(evaluations: Sequence[Evaluation]) -> Table:
    """One row a network: top-1, top-5 (per cent), loss, size, and how much smaller it is.

    The ratio is to the first float network's size; without one, to its own float32 parameters.
    """
    counts = {e.n_images for e in evaluations}
    title = f"on {counts.pop():,} images" if len(counts) == 1 else None
    table = plain_table(title)
    table.add_column("network", overflow="fold", min_width=8)
    table.add_column("form", no_wrap=True)
    for head in ("top-1 %", "top-5 %", "loss", "size", "ratio", "images/s"):
        table.add_column(head, justify="right", no_wrap=True)
    if title is None:
        table.add_column("images", justify="right", no_wrap=True)
    baseline = next((e.size_bytes for e in evaluations if e.kind == "float"), None)
    for e in evaluations:
        cells = [
            bare_percent(e.top1), bare_percent(e.top5), f"{e.loss:.4f}", byte_size(e.size_bytes),
            ratio(baseline or 4 * e.param_count, e.size_bytes), count(e.images_per_second),
        ]  # fmt: skip
        if title is None:
            cells.append(f"{e.n_images:,}")
        table.add_row(Text(e.name), e.kind, *cells)
    return table


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


def class_table(evaluations: Sequence[Evaluation]) -> Table | None:
    """Top-1 in per cent by class, one column a network; None where no class is known.

    With more than `MAX_CLASSES` classes, the worst and the best of the first network are shown.
    """
    names = list(dict.fromkeys(name for e in evaluations for name in e.per_class))
    if not names:
        return None
    labels = _labels(evaluations)
    numbered = sum(len(label) + 2 for label in labels) > _WIDEST
    if numbered:
        labels = [Text(str(i)) for i in range(1, len(labels) + 1)]
    title = "top-1 % by class"
    table = plain_table(title + ", networks numbered as in the last table" * numbered)
    table.add_column("class", overflow="fold", min_width=8)
    for label in labels:
        table.add_column(label, justify="right", overflow="fold")
    cut = len(names) > MAX_CLASSES
    if cut:
        scores = evaluations[0].per_class
        names.sort(key=lambda name: scores.get(name, 0.0))
    for i, name in enumerate(names):
        if cut and i == N_ENDS:
            table.add_row(f"… {len(names) - 2 * N_ENDS} more")
        if cut and N_ENDS <= i < len(names) - N_ENDS:
            continue
        table.add_row(
            Text(name), *(bare_percent(e.per_class.get(name, math.nan)) for e in evaluations)
        )
    return table


def _labels(evaluations: Sequence[Evaluation]) -> list[Text]:
    """The forms where they tell the networks apart, else the names' last parts."""
    kinds = [e.kind for e in evaluations]
    if len(set(kinds)) == len(kinds):
        return [Text(kind) for kind in kinds]
    return [Text(f"{e.name.rstrip('/').rsplit('/', 1)[-1]} ({e.kind})") for e in evaluations]


def agreement_lines(binary: str, packed: str, agreement: Agreement) -> list[str]:
    """Sentences: equal top-1, largest difference of a logit, flipped signs."""
    n_signs = sum(layer.n_signs for layer in agreement.layers)
    n_flipped = sum(layer.n_flipped for layer in agreement.layers)
    images, value = f"{agreement.n_images:,} images", "a logit"
    if agreement.equal_top1 is None:
        compared, value = f"  {images}, no top-1 without a classifier", "an output"
    else:
        compared = f"  equal top-1 on {percent(agreement.equal_top1)} of {images}"
    return [
        f"{packed} against {binary}:",
        compared,
        f"  largest difference of {value} {number(agreement.max_difference)}",
        f"  {n_flipped:,} of {n_signs:,} signs flipped",
    ]


def flips_table(agreement: Agreement) -> Table | None:
    """The layers in which signs flipped; None if none did."""
    flipped = [layer for layer in agreement.layers if layer.n_flipped]
    if not flipped:
        return None
    table = plain_table("flipped signs by layer")
    table.add_column("layer", overflow="fold", min_width=10)
    for head in ("signs", "flipped", "largest |x| flipped"):
        table.add_column(head, justify="right", no_wrap=True)
    for layer in flipped:
        table.add_row(
            Text(layer.name), f"{layer.n_signs:,}", f"{layer.n_flipped:,}",
            number(layer.largest_flipped),
        )  # fmt: skip
    return table


def disagreement_table(agreement: Agreement) -> Table | None:
    """The images whose top-1 differs, by index, each explained; None if there are none."""
    n_all = len(agreement.disagreements)
    if not n_all:
        return None
    shown = agreement.disagreements[:MAX_DISAGREEMENTS]
    table = plain_table("images whose top-1 differs")
    table.add_column("image", justify="right", no_wrap=True)
    table.add_column("binary", justify="right", no_wrap=True)
    table.add_column("packed", justify="right", no_wrap=True)
    table.add_column("margin", justify="right", no_wrap=True)
    table.add_column("why", overflow="fold", min_width=20)
    for d in shown:
        table.add_row(
            f"{d.index:,}", str(d.binary_class), str(d.packed_class), number(d.margin),
            Text(d.explanation),
        )  # fmt: skip
    if n_all > len(shown):
        table.add_row("…", "", "", "", f"{n_all - len(shown):,} more; all are in the JSON")
    return table
