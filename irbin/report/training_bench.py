"""A benchmark of training steps as a table: networks side by side, and where a step's time goes."""

from __future__ import annotations

from rich.table import Table

from irbin.records.bench import TrainBenchRecord
from irbin.records.json import JsonValue, to_json
from irbin.report.fitting import plain_table
from irbin.report.units import DASH, byte_size, count, digits, shape

PROMISED_RATIO = 1.25
"""A binary step costs at most so many float ones."""


def train_bench_heading(record: TrainBenchRecord) -> str:
    """What was trained, and with what."""
    plural = "" if record.n_threads == 1 else "s"
    place = "" if record.device == "cpu" else f" and {record.device}"
    return (
        f"{record.source}: training steps at batch {record.batch_size} of "
        f"{shape(record.input_size)}, {record.n_threads} thread{plural}{place}"
    )


def train_bench_table(record: TrainBenchRecord) -> Table:
    """A row a network: a step, images a second, the step's parts, and what it keeps in memory."""
    table = plain_table()
    table.add_column("network", no_wrap=True)
    heads = ("median ms", "p10", "p90", "images/s", "data", "forward", "backward", "optimizer")
    for head in (*heads, "saved for backward"):
        table.add_column(head, justify="right", no_wrap=True)
    for entry in record.entries:
        latency = entry.latency
        parts = (entry.data_ms, entry.forward_ms, entry.backward_ms, entry.optimizer_ms)
        table.add_row(
            entry.name,
            digits(latency.median_ms),
            digits(latency.p10_ms),
            digits(latency.p90_ms),
            count(entry.images_per_second),
            *map(digits, parts),
            DASH if entry.saved_bytes is None else byte_size(entry.saved_bytes),
        )
    return table


def ratio_line(record: TrainBenchRecord) -> str:
    """What a binary step costs, and whether that is within what is promised."""
    kept = record.ratio <= PROMISED_RATIO
    return (
        f"a binary step takes {digits(record.ratio)}× the time of a float one: "
        f"{'within' if kept else 'more than'} the {PROMISED_RATIO}× that it may"
    )


def train_bench_json(record: TrainBenchRecord) -> dict[str, JsonValue]:
    """The record with the ratio that its line shows, and the one promised."""
    value: dict[str, JsonValue] = to_json(record)
    return {**value, "ratio": record.ratio, "promised_ratio": PROMISED_RATIO}
