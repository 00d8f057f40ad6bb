"""The zoo's entries as a table, one entry whole, and recorded beside measured accuracy."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from irbin.messages import counted
from irbin.records.results import Evaluation
from irbin.records.zoo import ZooRecord, ZooRun
from irbin.report.fitting import fitting_table, plain_table
from irbin.report.sparkline import sparkline
from irbin.report.units import bare_percent, byte_size, duration, exact_bytes, percent, ratio

_SPARK_WIDTH = 22


def zoo_table(records: Sequence[ZooRecord], width: int) -> Table:
    """One row an entry: what it is, how large, how good, and what that took.

    Names stay whole: where there is no room for a column, it is left out; `record_table` has it.
    """
    heads = ["name", "network", "bits", "size", "top-1 %", "epochs", "hours", "machine"]
    rows = [
        [
            record.name,
            record.network,
            record.bits or "float",
            byte_size(record.size_bytes),
            bare_percent(record.top1),
            epochs(record),
            f"{record.hours:.1f}",
            machine_name(record.runs[-1]),
        ]
        for record in records
    ]
    return fitting_table(
        heads,
        rows,
        width,
        left_out=("machine", "hours", "epochs", "network", "bits", "size", "top-1 %"),
        numbers=("size", "top-1 %", "epochs", "hours"),
    )


def epochs(record: ZooRecord) -> str:
    """Of every run, oldest first: `80 + 400`."""
    return " + ".join(str(run.epochs) for run in record.runs)


def machine_name(run: ZooRun) -> str:
    """The device that computed, and for a processor its cores."""
    machine = run.machine
    processor = machine.get("processor") or "unknown"
    return str(machine.get("gpu") or f"{processor}, {machine.get('cores', '?')} cores")


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
    accuracy = f"top-1 {percent(record.top1)}, top-5 {percent(record.top5)}, loss {record.loss:.4f}"
    facts = [
        ("network", f"{record.network}, {record.bits or 'float'}"),
        ("accuracy", f"{accuracy}, on {counted(record.n_images, 'image')} of {record.dataset}"),
        ("kept", _kept(record)),
    ]
    if record.teacher is not None and record.teacher_top1 is not None:
        facts.append(("float network", f"{record.teacher}: top-1 {percent(record.teacher_top1)}"))
    return [
        *facts,
        ("size", _size(record)),
        (
            "training",
            f"{epochs(record)} epochs, {record.hours:.1f} hours, recipe {run.recipe}, "
            f"seed {run.seed}",
        ),
        ("machine", machine_name(run)),
        ("started", run.started),
        ("versions", ", ".join(f"{name} {version}" for name, version in run.versions.items())),
    ]


def _kept(record: ZooRecord) -> str:
    run = record.runs[-1]
    which = f"epoch {record.kept_epoch} of {run.epochs}"
    if record.kept == "best":
        return f"{which}, the best on the validation images"
    return f"{which}, the last"


def _size(record: ZooRecord) -> str:
    whole = f"{exact_bytes(record.size_bytes)}, of which tensors {record.tensor_bytes:,}"
    smaller = ratio(record.float_bytes, record.size_bytes)
    if record.bits is None:
        return f"{whole}; {smaller} smaller than as float32"
    return f"{whole}; {smaller} smaller than the float network"


def curve_line(run: ZooRun) -> str:
    """A run's validation top-1 over the epochs, as a sparkline with its ends."""
    top1 = run.curve.top1
    wanted = run.knobs.get("epochs", 0) + run.knobs.get("cooldown_epochs", 0)
    whole = counted(max(run.epochs, wanted), "epoch")
    done = f"{run.epochs} of {whole}" if run.epochs < wanted else whole
    took = f"{done} in {duration(run.seconds)}"
    if not top1:
        return f"{took}, never evaluated"
    ends = f"top-1 {percent(top1[0])} to {percent(top1[-1])}"
    return f"{took}  {sparkline(top1, _SPARK_WIDTH)}  {ends}"


def recorded_line(record: ZooRecord, evaluation: Evaluation) -> str:
    """What the record promises beside what was measured; they compare on as many images alone."""
    recorded = f"zoo:{record.name}: recorded {percent(record.top1)}"
    if record.n_images != evaluation.n_images:
        return f"{recorded} on {counted(record.n_images, 'image')} of {record.dataset}"
    n_apart = round(abs(evaluation.top1 - record.top1) * record.n_images / 100)
    verdict = (
        "equal" if n_apart == 0 else f"{n_apart:,} of {counted(record.n_images, 'image')} apart"
    )
    how = " from bytes" if evaluation.input_type == "bytes" else ""
    return f"{recorded}, measured {percent(evaluation.top1)}{how}: {verdict}"
