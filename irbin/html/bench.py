"""A benchmark as a page: where the time of a packed network goes, and who else takes how long."""

from __future__ import annotations

import math

from irbin.html.blocks import Block, Cell, Figure, Page, Section, Words, table
from irbin.html.charts import bars
from irbin.html.layers import Part, beside
from irbin.html.words import sentence
from irbin.records.bench import BenchRecord, NodeTiming
from irbin.report.bench import (
    bench_heading,
    estimate_lines,
    least_us,
    limit_line,
    machine_line,
    overhead_lines,
    slower_lines,
    torch_lines,
)
from irbin.report.units import DASH, byte_size, count, digits, ratio, shape


def bench_page(record: BenchRecord) -> Page:
    """The page of a packed network's speed."""
    return Page(
        f"Speed of {record.source}",
        bench_heading(record),
        (
            Section("Time a node, beside its limit", _nodes(record)),
            Section("Beside others", _peers(record)),
            Section("Machine", _machine(record)),
        ),
    )


def _nodes(record: BenchRecord) -> tuple[Block, ...]:
    nodes = record.nodes
    lines = (Words(sentence(line)) for line in (limit_line(record), *torch_lines(record)))
    if not nodes:
        return (Words("Nothing was timed."),)
    names = [node.layer for node in nodes]
    taken = Part("measured", 0, [node.median_us for node in nodes])
    least = [least_us(node, record) for node in nodes]
    limits = Part("limit", 1, least if all(map(math.isfinite, least)) else ())
    drawing = beside("µs a batch", names, taken, limits)
    caption = (
        "Every node of the packed network in the order in which they run. The limit is what its "
        "multiply-adds take on registers alone, without reading or writing memory."
    )
    return (*lines, Figure(caption, (drawing,)), _table(record))


def _table(record: BenchRecord) -> Block:
    total = sum(node.median_us for node in record.nodes) or 1.0
    rows = [_row(node, record, total) for node in record.nodes]
    numbers = ("output", "µs", "share %", "limit, µs", "of limit %")
    heads = ("node", "computed by", "fused into it", *numbers)
    return table("Every node; shares are of the sum.", heads, rows, numbers=numbers)


def _row(node: NodeTiming, record: BenchRecord, total: float) -> tuple[str | Cell, ...]:
    least = least_us(node, record)
    has_macs = bool(node.binary_macs or node.macs_of_floats) and math.isfinite(least)
    reached = least / node.median_us if has_macs and node.median_us else math.nan
    share = node.median_us / total
    return (
        node.layer,
        Cell(node.kernel, tone="note" if node.is_torch else "plain"),
        " ".join(node.steps),
        shape(node.shape) or DASH,
        Cell(digits(node.median_us), node.median_us),
        Cell(digits(100 * share), share),
        Cell(digits(least), least) if has_macs else Cell("", -1.0),
        Cell(digits(100 * reached), reached) if has_macs else Cell("", -1.0),
    )


def _peers(record: BenchRecord) -> tuple[Block, ...]:
    packed = record.entries[0].latency.median_ms
    heads = ("network", "median ms", "p10", "p90", "images/s", "peak memory", "× packed", "run by")
    rows: list[tuple[str | Cell, ...]] = [
        (
            one.name,
            *(
                Cell(digits(ms), ms)
                for ms in (one.latency.median_ms, one.latency.p10_ms, one.latency.p90_ms)
            ),
            Cell(count(one.images_per_second), one.images_per_second),
            Cell(DASH, -1.0)
            if one.peak_bytes is None
            else Cell(byte_size(one.peak_bytes), one.peak_bytes),
            Cell(ratio(one.latency.median_ms, packed), one.latency.median_ms),
            one.version,
        )
        for one in record.entries
    ]
    drawing = bars(
        "median of a batch, ms",
        [(one.name, one.latency.median_ms) for one in record.entries],
        digits,
    )
    lines = (*estimate_lines(record), *overhead_lines(record))
    warned = (*slower_lines(record), *record.notes)
    return (
        Figure("The packed network first, then the same network float.", (drawing,)),
        table("Interleaved runs of the same images.", heads, rows, numbers=heads[1:-1]),
        *(Words(sentence(line)) for line in lines),
        *(Words(sentence(line), "note") for line in warned),
    )


def _machine(record: BenchRecord) -> tuple[Block, ...]:
    threads = f"{record.n_threads} thread{'' if record.n_threads == 1 else 's'}"
    return (
        Words(sentence(machine_line(record.machine))),
        Words(f"{threads}, {record.machine.kernels} kernels, images as {record.input_type}."),
    )
