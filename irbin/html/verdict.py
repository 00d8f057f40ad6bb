"""What an evaluation comes to, in one sentence that says how much of it may be chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from irbin.messages import counted
from irbin.records.counts import difference_margin
from irbin.records.results import Evaluation
from irbin.report.units import bare_percent, byte_size, percent, ratio


def subject_of(evaluations: Sequence[Evaluation]) -> int:
    """The network that a page is about: the last packed one, else the last."""
    packed = [i for i, one in enumerate(evaluations) if one.kind == "packed"]
    return packed[-1] if packed else len(evaluations) - 1


def short_name(name: str) -> str:
    """The last part of a path; of the zoo's networks all."""
    return name if name.startswith("zoo:") else Path(name).name or name


def verdict(evaluations: Sequence[Evaluation]) -> str:
    """One sentence: accuracy with what chance leaves, against the float network, size and speed."""
    place = subject_of(evaluations)
    one = evaluations[place]
    short = short_name(one.name)
    name = f"{short} ({one.kind})" if short != one.kind else short
    said = (
        f"{name} answers {percent(one.top1)} ± {one.top1_margin:.2f} of "
        f"{counted(one.n_images, 'image')} right"
    )
    base = next((e for e in evaluations if e.kind == "float" and e is not one), None)
    if base is None:
        smaller = ratio(4 * one.param_count, one.size_bytes)
        gained = "" if one.kind == "float" else f", {smaller} smaller than as float32"
        return f"{said}, in {byte_size(one.size_bytes)}{gained}."
    change = one.top1 - base.top1
    off = _difference_margin(base, one)
    if math.isnan(off):
        apart = f"{abs(change):.2f} points {'fewer' if change < 0 else 'more'} than float"
    elif abs(change) <= off:
        apart = (
            f"no difference from float that so many images can show ({_signed(change)} ± {off:.2f} "
            "points)"
        )
    else:
        apart = (
            f"{abs(change):.2f} ± {off:.2f} points {'fewer' if change < 0 else 'more'} than float "
            f"({bare_percent(base.top1)} ± {base.top1_margin:.2f})"
        )
    faster = ratio(one.images_per_second, base.images_per_second)
    return (
        f"{said}: {apart}, in {byte_size(one.size_bytes)} instead of {byte_size(base.size_bytes)} "
        f"({ratio(base.size_bytes, one.size_bytes)} smaller), at {faster} its images a second."
    )


def _signed(points: float) -> str:
    """`+1.20`, `−1.20` with a true minus, which is as wide."""
    return f"{points:+.2f}".replace("-", "−")


def _difference_margin(base: Evaluation, one: Evaluation) -> float:
    """Of two networks' answers to the same images; nan where these were not kept."""
    if not base.answers or not one.answers:
        return math.nan
    pairs = [(a.is_right, b.is_right) for a, b in zip(base.answers, one.answers, strict=True)]
    return difference_margin(pairs.count((False, True)), pairs.count((True, False)), len(pairs))
