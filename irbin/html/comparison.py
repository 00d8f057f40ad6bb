"""Several runs as a page: what was asked otherwise, and what came of it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import fmean, stdev

from irbin.html.blocks import Block, Cell, Figure, Page, Section, Words, table
from irbin.html.curves import curve, look
from irbin.html.run import made_by, verdict_line
from irbin.html.svg import N_COLORS
from irbin.messages import counted, in_a_row
from irbin.report.curves import DEFAULT_PANELS, PANELS, panels_with_figures
from irbin.report.units import DASH, bare_percent, count, duration, number
from irbin.training.recorded import RecordedRun

N_MOVED = 20
"""Classes shown."""
MOST_RUNS = 24
"""Runs drawn and compared; more lines than that nobody tells apart."""
_SEED = "recipe.seed"
_NO_ARGUMENT = ("hardware.", "versions.", "git", "data.data_dir", "threads", "device")
"""Beginnings of what may differ between repetitions with several seeds."""


def comparison_page(runs: Sequence[RecordedRun], spelled: Callable[[str], str] = str) -> Page:
    """The page of several runs.

    Args:
        runs: at least two.
        spelled: makes options in sentences those of whoever reads, see `cli.spelling`.
    """
    shown = runs[:MOST_RUNS]
    return Page(
        f"Comparison of {counted(len(runs), 'run')}",
        ", ".join(run.name for run in runs),
        (
            Section("What differs", _differences(shown, len(runs) - len(shown))),
            Section("Curves over each other", _curves(shown)),
            Section("Runs and seeds", _table(runs, spelled)),
            Section("Classes that moved most", _moved(shown)),
        ),
        _made_by(shown),
    )


def _made_by(runs: Sequence[RecordedRun]) -> tuple[str, ...]:
    """Where they were computed, and with what: a line for all runs that share it."""
    groups: dict[str, list[str]] = {}
    for run in runs:
        for line in made_by(run):
            groups.setdefault(line, []).append(run.name)
    return tuple(f"{', '.join(names)}: {line}" for line, names in groups.items())


def _differences(runs: Sequence[RecordedRun], n_left_out: int) -> tuple[Block, ...]:
    options = [run.options() for run in runs]
    names = dict.fromkeys(name for one in options for name in one)
    rows = [
        (name, *(one.get(name, DASH) for one in options))
        for name in names
        if len({one.get(name, DASH) for one in options}) > 1
    ]
    left_out = (
        (Words(f"{counted(n_left_out, 'further run')} only in the table of runs below.", "note"),)
        if n_left_out
        else ()
    )
    if not rows:
        return (Words("Nothing: the runs were asked for the same, on the same machine."), *left_out)
    heads = ("argument", *(run.name for run in runs))
    caption = f"{counted(len(rows), 'argument')} of {len(names)} that are not the same for all."
    return (table(caption, heads, rows), *left_out)


def _curves(runs: Sequence[RecordedRun]) -> tuple[Block, ...]:
    epochs = {run.name: run.epochs for run in runs}
    names = panels_with_figures(epochs, tuple(PANELS))
    first = [name for name in names if name in DEFAULT_PANELS]
    if not names:
        return (Words("Nothing was measured that could be drawn."),)
    legend = tuple(
        (place % N_COLORS, look(place)[1] != "-", run.name) for place, run in enumerate(runs)
    )
    drawings = [curve(epochs, name) for name in [*first, *(n for n in names if n not in first)]]
    return (Figure("A color a run, over the epochs.", tuple(drawings), legend),)


def _table(runs: Sequence[RecordedRun], spelled: Callable[[str], str]) -> tuple[Block, ...]:
    rows = [_row(run) for run in runs]
    numbers = ("seed", "epochs", "best top-1 %", "in epoch", "last top-1 %", "loss", "time")
    heads = ("run", *numbers, "images/s")
    blocks: list[Block] = [
        table("Every run; loss is the last one of training.", heads, rows, numbers=heads[1:])
    ]
    blocks += _over_seeds(runs)
    for run in runs:
        told = "; ".join(f"epoch {epoch + 1}: {spelled(text)}" for epoch, text in run.symptoms())
        if told:
            blocks.append(Words(f"{verdict_line(run)} {told}.", "bad"))
    return tuple(blocks)


def _row(run: RecordedRun) -> tuple[str | Cell, ...]:
    best, last = run.best, run.epochs[-1]
    top1 = math.nan if best is None else best.eval_top1
    evaluated = [one.eval_top1 for one in run.epochs if one.eval_top1 == one.eval_top1]
    at_end = evaluated[-1] if evaluated else math.nan
    seconds = sum(one.seconds for one in run.epochs)
    rate = sorted(one.images_per_second for one in run.epochs)[len(run.epochs) // 2]
    return (
        run.name,
        Cell(str(run.recipe.seed), run.recipe.seed),
        Cell(f"{len(run.epochs)} of {run.n_epochs}", len(run.epochs)),
        Cell(bare_percent(top1), top1),
        Cell(DASH if best is None else str(best.epoch + 1), -1 if best is None else best.epoch),
        Cell(bare_percent(at_end), at_end),
        Cell(number(last.train_loss), last.train_loss),
        Cell(duration(seconds), seconds),
        Cell(count(rate), rate),
    )


def _over_seeds(runs: Sequence[RecordedRun]) -> list[Block]:
    """Mean and spread of runs that differ in nothing but the seed."""
    groups: dict[tuple[tuple[str, str], ...], list[RecordedRun]] = defaultdict(list)
    for run in runs:
        asked = {
            name: value
            for name, value in run.options().items()
            if name != _SEED and not name.startswith(_NO_ARGUMENT)
        }
        groups[tuple(sorted(asked.items()))].append(run)
    rows = []
    for group in groups.values():
        # a run that was copied or resumed elsewhere is no second seed
        of_seed = {run.recipe.seed: run for run in reversed(group) if run.best is not None}
        different = [run for run in group if of_seed.get(run.recipe.seed) is run]
        top1 = [run.best.eval_top1 for run in different if run.best is not None]
        if len(top1) < 2:
            continue
        mean, spread = fmean(top1), stdev(top1)
        rows.append(
            (
                ", ".join(run.name for run in different),
                in_a_row(run.recipe.seed for run in different),
                Cell(bare_percent(mean), mean),
                Cell(f"{spread:.2f}", spread),
            )
        )
    if not rows:
        return []
    heads = ("runs", "seeds", "mean best top-1 %", "standard deviation")
    caption = "Runs that differ in the seed alone: smaller differences than this may be chance."
    return [table(caption, heads, rows, numbers=heads[2:])]


def _moved(runs: Sequence[RecordedRun]) -> tuple[Block, ...]:
    known = [run for run in runs if run.classes]
    if len(known) < 2:
        return (
            Words(
                "Not known: that takes two runs with a `classes.csv`, which irbin writes since it "
                "has reports."
            ),
        )
    best = [{one.name: one.best for one in run.classes} for run in known]
    names = [name for name in best[0] if all(name in one for one in best)]
    moved = {
        name: max(one[name] for one in best) - min(one[name] for one in best) for name in names
    }
    largest = sorted(
        (name for name in names if math.isfinite(moved[name])), key=lambda name: -moved[name]
    )
    rows: list[tuple[str | Cell, ...]] = [
        (
            name,
            *(Cell(bare_percent(one[name]), one[name]) for one in best),
            Cell(f"{moved[name]:.2f}", moved[name]),
        )
        for name in largest[:N_MOVED]
    ]
    if not rows:
        return (Words("The runs have no class in common."),)
    heads = ("class", *(f"{run.name}, top-1 %" for run in known), "apart, points")
    caption = (
        f"Accuracy by class in each run's best epoch, {len(rows)} of {len(names)} classes: those "
        "in which the runs are furthest apart."
    )
    return (table(caption, heads, rows, numbers=heads[1:]),)


def _spread(values: Sequence[float]) -> float:
    return max(values) - min(values)
