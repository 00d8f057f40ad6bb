"""Where training stands and how it went, as short labelled figures that fit 80 columns."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.table import Table

from irbin.records.training import EpochRecord, RunRecord, StepRecord
from irbin.report.fitting import plain_table
from irbin.report.sparkline import sparkline
from irbin.report.units import DASH, bare_percent, count, digits, duration, number, percent

_EPOCH_HEADS = (
    "epoch",
    "loss",
    "top-1",
    "val loss",
    "val top-1",
    "top-5",
    "lr",
    "t",
    "flips",
    "img/s",
    "time",
)
_EPOCH_WIDTHS = (5, 6, 6, 8, 9, 6, 7, 5, 5, 5, 7)
_WORTH_SAYING = 0.01
"""Share of the time spent waiting for images from which it is shown."""
_SPARK_WIDTH = 24


def step_figures(record: StepRecord) -> list[tuple[str, str]]:
    """(label, value) of everything that moves within an epoch; t and k only where EDE anneals.

    They fit 80 columns; what is waited for images is told by `waiting_figure`.
    """
    figures = [
        ("images/s", count(record.images_per_second)),
        ("loss", _fixed(record.loss, 4)),
        ("top-1", percent(record.top1)),
        ("lr", f"{record.lr:.3g}"),
    ]
    if not math.isnan(record.t):
        figures += [("t", _short(record.t)), ("k", _short(record.k))]
    return figures


def waiting_figure(record: StepRecord) -> list[tuple[str, str]]:
    """(label, value) of the share of time spent waiting for images; none below one per cent."""
    if not record.waiting >= _WORTH_SAYING:
        return []
    return [("waiting for images", f"{100 * record.waiting:.0f} %")]


def stage_figure(record: StepRecord) -> list[tuple[str, str]]:
    """(label, value) of what is binary in a run of several stages; none in others."""
    return [("stage", record.stage)] if record.stage else []


def history_figures(epochs: Sequence[EpochRecord]) -> list[tuple[str, str]]:
    """(label, value) of the validation so far as a sparkline and its last figure.

    None before there are two evaluated epochs, where there is nothing to compare. Stages in which
    not everything is binary are compared with themselves.
    """
    same = [epoch for epoch in epochs if epoch.stage == epochs[-1].stage]
    top1 = [epoch.eval_top1 for epoch in same if math.isfinite(epoch.eval_top1)]
    return [("val top-1", f"{_course(top1)} {percent(top1[-1])}")] if len(top1) > 1 else []


def step_position(record: StepRecord) -> str:
    """`epoch 3/10  step 40/391`, both counted from 1, padded so that it does not jump."""
    epoch = f"{record.epoch + 1:{len(str(record.n_epochs))}d}/{record.n_epochs}"
    step = f"{record.step:{len(str(record.n_steps))}d}/{record.n_steps}"
    return f"epoch {epoch}  step {step}"


def step_line(record: StepRecord) -> str:
    """Everything in one plain line, for logs."""
    shown = [*step_figures(record), *waiting_figure(record), *stage_figure(record)]
    figures = "  ".join(f"{label} {value}" for label, value in shown)
    return f"{step_position(record)}  {figures}  left {duration(record.seconds_left)}"


def epoch_header() -> str:
    """Heads of the columns of `epoch_line`."""
    return _columns(_EPOCH_HEADS)


def epoch_line(record: EpochRecord) -> str:
    """One epoch under `epoch_header`; the epoch counts from 1. A dash is a figure not measured.

    Accuracies and flips are per cent. EDE's k is not among them: it follows from t.
    """
    return _columns(
        (
            str(record.epoch + 1),
            _fixed(record.train_loss, 3),
            bare_percent(record.train_top1),
            _fixed(record.eval_loss, 3),
            bare_percent(record.eval_top1),
            bare_percent(record.eval_top5),
            f"{record.lr:.2g}",
            _short(record.t),
            bare_percent(100 * record.flip_ratio),
            count(record.images_per_second).replace(" ", ""),
            duration(record.seconds),
        )
    )


def run_table(record: RunRecord) -> Table:
    """How a run ended: epochs, best accuracy and where, last accuracy and the way to it."""
    table = plain_table()
    table.add_column("", no_wrap=True)
    table.add_column("", overflow="fold")
    done = len(record.epochs)
    table.add_row("run folder", record.path)
    table.add_row("epochs done", str(done))
    if record.best_epoch >= 0:
        table.add_row("best top-1", f"{percent(record.best_top1)} in epoch {record.best_epoch + 1}")
    if done:
        last = record.epochs[-1]
        course = _course([epoch.eval_top1 for epoch in record.epochs]) if done > 1 else ""
        stage = "" if last.counts else f"  (stage {last.stage})"
        table.add_row("last top-1", f"{percent(last.eval_top1)}{stage}  {course}".rstrip())
        table.add_row(
            "last loss", f"{number(last.train_loss)}, validation {number(last.eval_loss)}"
        )
        table.add_row("time", duration(sum(epoch.seconds for epoch in record.epochs)))
    table.show_header = False
    return table


def _course(figures: Sequence[float]) -> str:
    return sparkline(figures, _SPARK_WIDTH)


def _columns(cells: tuple[str, ...]) -> str:
    return " ".join(
        cell.rjust(width) for cell, width in zip(cells, _EPOCH_WIDTHS, strict=True)
    ).rstrip()


def _fixed(value: float, places: int) -> str:
    return DASH if math.isnan(value) else f"{value:.{places}f}"


def _short(value: float) -> str:
    """At most five characters for anything EDE takes: `0.001`, `0.316`, `10.0`, `1,000`."""
    return f"{value:.3f}" if value < 1 else digits(value)
