"""The zoo's entries as a table, one entry whole, and recorded beside measured accuracy."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from irbin.records import Evaluation, ZooRecord, ZooRun
from irbin.report.plan import plain_table
from irbin.report.sparkline import sparkline
from irbin.report.units import bare_percent, byte_size, duration, exact_bytes, percent, ratio

_SPARK_WIDTH = 40


def zoo_table(records: Sequence[ZooRecord]) -> Table:
    """One row an entry: what it is, how large, how good, and what that took."""
    table = plain_table()
    table.add_column("name", overflow="fold", min_width=20)
    table.add_column("network", no_wrap=True)
    table.add_column("bits", no_wrap=True)
    for head in ("size", "top-1 %", "epochs", "hours"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("machine", overflow="fold")
    for record in records:
        table.add_row(
            record.name, record.network, record.bits, byte_size(record.size_bytes),
            bare_percent(record.top1), epochs(record), f"{record.hours:.1f}",
            machine_name(record.runs[-1]),
        )  # fmt: skip
    return table


def epochs(record: ZooRecord) -> str:
    """Of every run, oldest first: `80 + 400`."""
    return " + ".join(str(run.epochs) for run in record.runs)


def machine_name(run: ZooRun) -> str:
    """The device that computed, and for a processor its cores."""
    machine = run.machine
    return str(machine.get("gpu") or f"{machine['processor']}, {machine['cores']} cores")


def record_table(record: ZooRecord) -> Table:
    """An entry, a line a fact; its runs are told by `curve_line`."""
    table = plain_table()
    table.show_header = False
    table.add_column("", no_wrap=True)
    table.add_column("", overflow="fold")
    for label, value in _facts(record):
        table.add_row(label, Text(value))
    return table


def _facts(record: ZooRecord) -> list[tuple[str, str]]:
    run = record.runs[-1]
    on = f"{record.n_images:,} images of {record.dataset}"
    facts = [
        ("network", f"{record.network}, {record.bits}"),
        ("accuracy", f"top-1 {percent(record.top1)}, top-5 {percent(record.top5)}, "
                     f"loss {record.loss:.4f}, packed, on {on}"),
    ]  # fmt: skip
    if record.teacher is not None and record.teacher_top1 is not None:
        facts.append(("float network", f"{record.teacher}: top-1 {percent(record.teacher_top1)}"))
    smaller = ratio(record.float_bytes, record.size_bytes)
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    return [
        *facts,
        ("size", f"{exact_bytes(record.size_bytes)}, {smaller} smaller than float"),
        ("training", f"{epochs(record)} epochs, {record.hours:.1f} hours, recipe {run.recipe}, "
                     f"seed {run.seed}"),
        ("machine", machine_name(run)),
        ("started", run.started),
        ("versions", versions),
    ]  # fmt: skip


def curve_line(run: ZooRun) -> str:
    """A run's validation top-1 over the epochs, as a sparkline with its ends."""
    top1 = run.curve.top1
    ends = f"{percent(top1[0])} to {percent(top1[-1])}" if top1 else "never evaluated"
    took = f"{run.epochs} epochs in {duration(run.seconds)}"
    return f"{took}  top-1 {sparkline(top1, _SPARK_WIDTH)} {ends}"


def recorded_line(record: ZooRecord, evaluation: Evaluation) -> str:
    """What the record promises beside what was measured; they compare on as many images alone."""
    recorded = f"zoo:{record.name}: recorded {percent(record.top1)}"
    if record.n_images != evaluation.n_images:
        return f"{recorded} on {record.n_images:,} images of {record.dataset}"
    n_apart = round(abs(evaluation.top1 - record.top1) * record.n_images / 100)
    verdict = "equal" if n_apart == 0 else f"{n_apart:,} of {record.n_images:,} images apart"
    return f"{recorded}, measured {percent(evaluation.top1)}: {verdict}"
