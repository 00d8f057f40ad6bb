"""One run as a page: how it ended, what was wrong, and what it was asked to do."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import groupby

from irbin.html.blocks import Block, Cell, Figure, Page, Section, Words, table
from irbin.html.curves import curve, layer_map, waits
from irbin.messages import counted, in_a_row
from irbin.recipes.recipe import Recipe
from irbin.records.json import JsonValue, to_json
from irbin.records.knob import knobs_of
from irbin.records.training import EpochRecord
from irbin.report.curves import PANELS, panels_with_figures
from irbin.report.units import bare_percent, count, duration, number, percent
from irbin.training.recorded import RecordedRun

_MAPS = {
    "flip_ratio": ("signs flipped in an epoch, share", number),
    "weight_entropy": ("entropy of the weights' signs, bits", number),
    "activation_entropy": ("entropy of the activations' signs, bits", number),
}
"""Figures of layers that are drawn over the epochs."""


def run_page(run: RecordedRun, spelled: Callable[[str], str] = str) -> Page:
    """The page of one run.

    Args:
        run: to show; it may still be going on.
        spelled: makes options in sentences those of whoever reads, see `cli.spelling`.
    """
    return Page(
        f"Run {run.name}",
        _about(run),
        (
            Section("Verdict and symptoms", _verdict(run, spelled)),
            Section("Curves", _curves(run)),
            Section("Layers over epochs", _layers(run)),
            Section("Stages", _stages(run)),
            Section("Recipe against the default", _recipe(run)),
            Section("Time and waiting", _time(run)),
        ),
        made_by(run),
    )


def made_by(run: RecordedRun) -> tuple[str, ...]:
    """Where a run was computed, and with what."""
    lines = []
    hardware, versions = (run.args.get(name) for name in ("hardware", "versions"))
    if isinstance(hardware, dict):
        lines.append(f"on {', '.join(_part(name, value) for name, value in hardware.items())}")
    if isinstance(versions, dict):
        lines.append(f"with {', '.join(f'{name} {one}' for name, one in versions.items())}")
    return tuple(lines)


def _part(name: str, value: JsonValue) -> str:
    """Of a machine: `AMD EPYC`, `2 cores`, `25 GB`; another fact with its name."""
    if name == "processor":
        return str(value)
    if name == "cores" and isinstance(value, int):
        return counted(value, "core")
    return f"{value} GB" if name == "memory_gb" else f"{name} {value}"


def verdict_line(run: RecordedRun) -> str:
    """How far a run came, and how well."""
    done, wanted, best = len(run.epochs), run.n_epochs, run.best
    how_far = (
        f"all {counted(done, 'epoch')} are done"
        if done >= wanted
        else f"{done} of {counted(wanted, 'epoch')} are done"
    )
    if best is None:
        return f"{run.name}: {how_far}; nothing that counts was evaluated yet."
    last = next(one for one in reversed(run.epochs) if not math.isnan(one.eval_top1))
    ended = "" if last.epoch == best.epoch else f", {percent(last.eval_top1)} at the end"
    return (
        f"{run.name} reached {percent(best.eval_top1)} of the validation images in epoch "
        f"{best.epoch + 1}{ended}; {how_far}."
    )


def _about(run: RecordedRun) -> str:
    source = run.args.get("source")
    network = source.get("architecture", "") if isinstance(source, dict) else ""
    form = "float" if run.plan is None else run.plan.bits
    return f"{network}, {form}, {counted(run.n_epochs, 'epoch')}, seed {run.recipe.seed}".strip(
        ", "
    )


def _verdict(run: RecordedRun, spelled: Callable[[str], str]) -> tuple[Block, ...]:
    told = run.symptoms()
    blocks: list[Block] = [Words(verdict_line(run), "strong")]
    if not told:
        return (*blocks, Words("No symptom was seen in any epoch.", "good"))
    blocks += [
        Words(f"From epoch {epoch + 1} on {spelled(sentence)}.", "bad") for epoch, sentence in told
    ]
    return tuple(blocks)


def _curves(run: RecordedRun) -> tuple[Block, ...]:
    runs = {run.name: run.epochs}
    drawings = tuple(curve(runs, name) for name in panels_with_figures(runs, tuple(PANELS)))
    if not drawings:
        return (Words("Nothing was measured that could be drawn."),)
    return (Figure("Every figure that the run kept, over its epochs.", drawings),)


def _layers(run: RecordedRun) -> tuple[Block, ...]:
    drawings = tuple(
        layer_map(run.layers, field, title, shown)
        for field, (title, shown) in _MAPS.items()
        if any(math.isfinite(getattr(row, field)) for row in run.layers)
    )
    if not drawings:
        return (Words("There is none: a float network, or a run of an earlier irbin."),)
    caption = (
        "Every binary layer (rows, the first on top) over the epochs. Flips die down where signs "
        "settle; 1 bit of entropy is as many +1 as −1."
    )
    return (Figure(caption, drawings),)


def _stages(run: RecordedRun) -> tuple[Block, ...]:
    if len(run.stages) == 1:
        what = "nothing is binary" if run.plan is None else "all binary layers are binary"
        return (Words(f"One stage: {what} from the first epoch to the last."),)
    rows = []
    for name, group in groupby(run.epochs, key=lambda one: one.stage):
        epochs = list(group)
        best = max((e.eval_top1 for e in epochs if e.eval_top1 == e.eval_top1), default=math.nan)
        span = f"{epochs[0].epoch + 1} to {epochs[-1].epoch + 1}"
        seconds = sum(one.seconds for one in epochs)
        rows.append(
            (
                name or "all",
                span,
                Cell(bare_percent(best), best),
                Cell(number(epochs[-1].train_loss), epochs[-1].train_loss),
                Cell(duration(seconds), seconds),
            )
        )
    heads = ("binary", "epochs", "best top-1 %", "last training loss", "time")
    caption = "What is binary when; only the last stage's accuracy is that of the network."
    return (table(caption, heads, rows, numbers=heads[1:], sortable=False),)


def _recipe(run: RecordedRun) -> tuple[Block, ...]:
    default, own = to_json(Recipe()), to_json(run.recipe)
    command = run.args.get("command")
    named = command.get("recipe") if isinstance(command, dict) else None
    overrides = (command.get("overrides") or {}) if isinstance(command, dict) else {}
    asked = run.args.get("asked")
    decided = {k for k, v in asked.items() if v == "auto"} if isinstance(asked, dict) else set()
    by_recipe = f"recipe {named}" if named else "the recipe"
    rows = [
        (
            one.flag,
            _said(own[one.name]),
            _said(default[one.name]),
            "flag"
            if one.name in overrides
            else "decided when it began"
            if one.name in decided
            else by_recipe,
            one.knob.help,
        )
        for one in knobs_of(Recipe)
        if own[one.name] != default[one.name]
    ]
    what = f"Recipe `{named}`" if named else "The default recipe"
    if not rows:
        return (Words(f"{what}, without a knob that differs from the default."),)
    heads = ("knob", "this run", "default", "said by", "what it does")
    n_all = len(knobs_of(Recipe))
    return (table(f"{what}: {len(rows)} of {n_all} knobs differ from the default.", heads, rows),)


def _said(value: JsonValue) -> str:
    if isinstance(value, list):
        return in_a_row(value) or "–"
    return "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _time(run: RecordedRun) -> tuple[Block, ...]:
    return (
        Words(time_line(run.epochs)),
        Figure("Where the time went, epoch by epoch.", (waits(run.epochs),)),
    )


def time_line(epochs: Sequence[EpochRecord]) -> str:
    """Time in all and an epoch, images a second, and the share of waiting."""
    seconds = sum(one.seconds for one in epochs)
    rates = sorted(one.images_per_second for one in epochs if one.images_per_second > 0)
    waited = sum(one.seconds * one.waiting for one in epochs if one.waiting == one.waiting)
    said = f"{duration(seconds)} in all, {duration(seconds / len(epochs))} an epoch"
    if rates:
        said += f", {count(rates[len(rates) // 2])} images a second in the median epoch"
    if any(one.waiting == one.waiting for one in epochs) and seconds:
        said += f"; steps waited for images for {percent(100 * waited / seconds)} of it"
    return f"{said}."
