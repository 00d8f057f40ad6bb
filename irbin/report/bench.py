"""A benchmark as tables: networks side by side, the packed one by node, kernels at their limit."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.table import Table

from irbin.messages import counted
from irbin.records.bench import BenchRecord, KernelRate, Machine, NodeTiming, TorchWork
from irbin.records.json import JsonValue, to_json
from irbin.records.plan import FITTED_TO
from irbin.report.fitting import fitting_table, plain_table
from irbin.report.units import DASH, byte_size, count, digits, ratio, shape

SLOW = 4
"""A binary layer whose rate is below so many times the float limit is worth naming."""
SMALL_SHARE = 0.005
"""Nodes below it are added up in one row."""


def bench_heading(record: BenchRecord) -> str:
    """What was run, and how."""
    plural = "" if record.n_threads == 1 else "s"
    return (
        f"{record.source}: batch {record.batch_size} of {shape(record.input_size)} as "
        f"{record.input_type}, "
        f"{record.n_threads} thread{plural}, {record.machine.kernels} kernels"
    )


def machine_line(machine: Machine) -> str:
    """Where, in one line."""
    return (
        f"{machine.processor}, {machine.n_cores} cores, load {machine.load:.2f} before; Python "
        f"{machine.python}, torch {machine.torch}, irbin {machine.irbin}, threads of "
        f"{machine.thread_pool}"
    )


def entries_table(record: BenchRecord, width: int) -> Table:
    """A row a network: latency, throughput, memory, and its time in times of the packed one.

    Names stay whole: where there is no room for a column, it is left out; the JSON has it.
    """
    numbers = ("median ms", "p10", "p90", "images/s", "peak memory", "× packed")
    packed = record.entries[0].latency.median_ms
    rows = [
        (
            entry.name,
            digits(entry.latency.median_ms),
            digits(entry.latency.p10_ms),
            digits(entry.latency.p90_ms),
            count(entry.images_per_second),
            DASH if entry.peak_bytes is None else byte_size(entry.peak_bytes),
            ratio(entry.latency.median_ms, packed),
            entry.version,
        )
        for entry in record.entries
    ]
    return fitting_table(
        ("network", *numbers, "run by"),
        rows,
        width,
        left_out=("run by", "p90", "p10", "peak memory", "images/s"),
        numbers=numbers,
        wrapped=("run by",),
    )


def nodes_table(record: BenchRecord, width: int) -> Table:
    """A row a node of the packed network, with its share of the time and its rate.

    Names stay whole, as in `entries_table`.
    """
    numbers = ("output", "µs", "share %", "GMAC/s", "of limit %")
    total = sum(node.median_us for node in record.nodes)
    small: list[NodeTiming] = []
    rows: list[tuple[str, ...]] = []
    for node in record.nodes:
        if node.median_us < SMALL_SHARE * total and not node.binary_macs:
            small.append(node)
            continue
        rows.append(
            (
                node.layer,
                node.kernel,
                " ".join(node.steps),
                shape(node.shape) or DASH,
                digits(node.median_us),
                digits(100 * node.median_us / total),
                *_rate(node, record),
            )
        )
    if small:
        took = sum(node.median_us for node in small)
        rows.append(
            (f"{len(small)} more", "", "", "", digits(took), digits(100 * took / total), "", "")
        )
    return fitting_table(
        ("node", "computed by", "fused into it", *numbers),
        rows,
        width,
        left_out=("fused into it", "output", "computed by", "of limit %", "GMAC/s"),
        numbers=numbers,
        wrapped=("fused into it",),
        styles={len(rows) - 1: "dim"} if small else {},
    )


def limit_line(record: BenchRecord) -> str:
    """The whole network against the sum of its parts' limits."""
    packed = record.entries[0].latency.median_ms
    binary = sum(node.binary_macs for node in record.nodes)
    floats = sum(node.float_macs for node in record.nodes)
    pixels = sum(node.byte_macs for node in record.nodes)
    others = f", {count(pixels)} of bytes (two in a float one's time)" if pixels else ""
    signs = sum(node.sign_macs for node in record.nodes)
    others += f", {count(signs)} of floats with signs (four in its time)" if signs else ""
    told = f"{count(binary)} 1-bit and {count(floats)} float multiply-adds{others} an image"
    if math.isnan(record.register_gmacs):
        return f"{told}; no limit is known of {record.machine.kernels} kernels"
    if math.isnan(record.float_register_gmacs):
        line = (
            f"{told}; no limit is known of floats and bytes with {record.machine.kernels} kernels"
        )
        if not binary:
            return line
        return (
            f"{line}; at the rate of registers alone, {digits(record.register_gmacs)} GMAC/s, one "
            f"thread needs {digits(record.limit_ms)} ms for the others: measured is "
            f"{ratio(packed, record.limit_ms)} that"
        )
    return (
        f"{told}; at the rates of "
        f"registers alone, {digits(record.register_gmacs)} and "
        f"{digits(record.float_register_gmacs)} GMAC/s, one thread needs "
        f"{digits(record.limit_ms)} ms: measured is {ratio(packed, record.limit_ms)} that"
    )


def estimate_lines(record: BenchRecord) -> tuple[str, ...]:
    """The speed-up that `irbin inspect` told in advance, beside what was measured."""
    floats = [e for e in record.entries if e.name == "torch fp32"]
    if record.estimated_speed_up is None or not floats:
        return ()
    measured = ratio(floats[0].latency.median_ms, record.entries[0].latency.median_ms)
    told = f"estimated {digits(record.estimated_speed_up)}× torch fp32"
    if record.machine.kernels != FITTED_TO:
        told += f" for `{FITTED_TO}`, where more is gained"
    return (f"{told}, measured {measured}",)


def torch_lines(record: BenchRecord) -> tuple[str, ...]:
    """What torch computes of the packed network, and its share of the time; nothing for nothing."""
    share = f"{digits(100 * record.torch_share)} % of the time"
    return tuple(f"{line}, {share}" for line in torch_work_lines(record.torch_work))


def bytes_line(why_floats: str) -> str:
    """Whether a packed network reads images as bytes."""
    if not why_floats:
        return "images as bytes (`model.bytes`): its first layers read them as they are"
    return f"images as bytes (`model.bytes`): normalized to floats first: {why_floats}"


def torch_work_lines(work: TorchWork) -> tuple[str, ...]:
    """What torch computes of a packed network; nothing for nothing."""
    if not work.operators:
        return ()
    names = ", ".join(f"{n} `{name}`" for name, n in work.operators.items())
    return (f"torch computes {work.n_torch} of {counted(work.n_calls, 'call')}: {names}",)


def overhead_lines(record: BenchRecord) -> tuple[str, ...]:
    """What is neither computing nor waiting for memory: calling, and loading."""
    lines = []
    if record.overhead_us == record.overhead_us:
        share = record.overhead_us / 10 / record.entries[0].latency.median_ms
        lines.append(
            f"calling the kernels takes {digits(record.overhead_us)} µs, "
            f"{digits(share)} % of the time"
        )
    if record.load_ms is not None:
        lines.append(f"loading takes {digits(record.load_ms)} ms in a fresh process")
    return tuple(lines)


def slower_lines(record: BenchRecord) -> tuple[str, ...]:
    """What to do where the packed network is no faster than the float one."""
    packed, *others = record.entries
    floats = [e for e in others if e.name.startswith("torch fp32")]
    if not floats or floats[0].latency.median_ms > packed.latency.median_ms:
        return ()
    bar = SLOW * record.float_register_gmacs
    slow = [node for node in record.nodes if node.binary_macs and _gmacs(node, record) < bar]
    slow.sort(key=lambda node: -node.median_us)
    names = ", ".join(f"`{node.layer}`" for node in slow[:5])
    line = "the packed network is slower than the float one"
    return (f"{line}; keep {names} float (`--keep`): there binary is no faster" if names else line,)


def bench_json(record: BenchRecord) -> dict[str, JsonValue]:
    """The record with the ratios and limits that its tables show."""
    value: dict[str, JsonValue] = to_json(record)
    packed = record.entries[0].latency.median_ms
    value["ratios"] = {e.name: e.latency.median_ms / packed for e in record.entries[1:]}
    value["limit_ms"] = record.limit_ms
    value["torch_share"] = record.torch_share
    return value


def rates_table(rates: Sequence[KernelRate]) -> Table:
    """A row a convolution: rate, limit, and the share of one in the other."""
    table = plain_table()
    for head in ("kernels", "3×3 on", "writes"):
        table.add_column(head, no_wrap=True)
    for head in ("GMAC/s", "registers alone", "share %"):
        table.add_column(head, justify="right", no_wrap=True)
    for rate in rates:
        table.add_row(
            rate.implementation,
            shape(rate.shape),
            rate.output,
            digits(rate.gmacs),
            digits(rate.register_gmacs),
            digits(100 * rate.gmacs / rate.register_gmacs),
        )
    return table


def _rate(node: NodeTiming, record: BenchRecord) -> tuple[str, str]:
    """GMAC/s, and the least possible time as a share of the time it took."""
    if not node.n_macs:
        return "", ""
    least = least_us(node, record)
    reached = digits(100 * least / node.median_us) if math.isfinite(least) else ""
    return digits(_gmacs(node, record)), reached


def least_us(node: NodeTiming, record: BenchRecord) -> float:
    """What a node takes, µs a batch, if every multiply-add runs at the rate of registers alone.

    Nan where a rate that it needs is.
    """
    return 1e3 * record.least_ms(node)


def _gmacs(node: NodeTiming, record: BenchRecord) -> float:
    return record.batch_size * node.n_macs / node.median_us / 1e3
