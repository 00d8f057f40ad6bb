"""How a network bears binarization, as tables: the ranking with a bar a layer, and the way down."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence

from rich.bar import Bar
from rich.table import Table
from rich.text import Text

from irbin.records.sensitivity import LayerSensitivity, PathPoint, Proposal, Ranking, Sensitivity
from irbin.report.plan import BINARY_STYLE, FLOAT_STYLE, plain_table
from irbin.report.units import DASH, bare_percent, byte_size, digits, number

BAR_WIDTH = 8
LONGEST_NAME = 20
"""Characters before a name is folded, so that a row fits 80 columns."""


def sensitivity_heading(record: Sensitivity) -> str:
    """What was measured, and on what."""
    base = record.path[0] if record.path else None
    parts = [f"{record.source}: one {record.by} at a time, {record.options.bits}"]
    if base is not None:
        parts.append(f"float top-1 {bare_percent(base.top1)} % and loss {number(base.loss)}")
    parts.append(f"{record.n_images:,} images")
    if record.n_calibration:
        parts.append(f"batch norm of {record.n_calibration:,} training images")
    return ", ".join(parts)


def ranking_table(record: Sensitivity) -> Table:
    """A row a layer or block in the order of binarizing, with the loss it adds alone."""
    table = plain_table()
    longest = max([len(record.by), *(len(layer.name) for layer in record.layers)])
    table.add_column(record.by, overflow="fold", width=min(longest, LONGEST_NAME))
    table.add_column("loss", justify="right", no_wrap=True)
    table.add_column("±", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True, width=BAR_WIDTH)
    for head in ("top-1 %", "saves", "loss/ms" if record.ranked_by == "time" else "loss/MB"):
        table.add_column(head, justify="right", no_wrap=True)
    if record.proposal is not None:
        table.add_column("plan", no_wrap=True)
    finite = [x.loss_increase for x in record.layers if math.isfinite(x.loss_increase)]
    largest = max([0.0, *finite])
    for layer in record.layers:
        cells = _ranking_row(layer, largest, record.ranked_by)
        if record.proposal is not None:
            cells.append(_fate(layer, record.proposal))
        table.add_row(*cells)
    return table


def _ranking_row(layer: LayerSensitivity, largest: float, by: Ranking) -> list[Text | Bar]:
    whole = math.isfinite(layer.loss_increase)
    share = max(layer.loss_increase, 0) if whole else largest
    if by == "time":
        saved, shown = 1e3 * layer.seconds_saved, f"{1e6 * layer.seconds_saved:,.0f} µs"
    else:
        saved, shown = layer.bytes_saved / 1e6, byte_size(layer.bytes_saved)
    return [
        Text(layer.name),
        Text(f"{layer.loss_increase:+.3f}" if whole else DASH),
        Text(f"{layer.standard_error:.3f}" if math.isfinite(layer.standard_error) else DASH),
        Bar(largest or 1.0, 0, share, width=BAR_WIDTH, color="cyan" if whole else "red"),
        Text(bare_percent(layer.top1)),
        Text(shown),
        Text(_rate(layer.loss_increase / saved) if whole and saved > 0 else DASH),
    ]


def _rate(value: float) -> str:
    """Two digits with a sign, no exponent where it is large: `+3.2`, `+133`."""
    return f"{value:+,.0f}" if abs(value) >= 99.5 else f"{value:+.2g}"


def _fate(layer: LayerSensitivity, proposal: Proposal) -> Text:
    if layer.layers[0] in proposal.binary:
        return Text("binary", BINARY_STYLE)
    return Text("float", FLOAT_STYLE)


def path_table(record: Sensitivity) -> Table:
    """A row a measured network from float to binary, the proposal last; ● marks the front."""
    table = plain_table()
    for head in ("binary layers", "size", "≈ ms", "top-1 %", "loss"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("front", justify="center", no_wrap=True)
    table.add_column("", no_wrap=True)
    for i, point in enumerate(record.path):
        table.add_row(*_path_row(point), "float network" if i == 0 else "")
    if record.proposal is not None:
        table.add_row(*_path_row(record.proposal.point), "proposed", style="bold")
    return table


def _path_row(point: PathPoint) -> list[str]:
    return [
        str(point.n_binary),
        byte_size(point.packed_bytes),
        digits(1e3 * point.seconds),
        bare_percent(point.top1),
        digits(point.loss),
        "●" if point.on_front else "",
    ]


def proposal_line(proposal: Proposal) -> str:
    """What is proposed, for which budget, and what it costs."""
    kind, limit = proposal.budget.kind, proposal.budget.limit
    asked = {
        "bytes": f"at most {byte_size(limit)}",
        "latency": f"at most {limit:g} ms",
        "drop": f"at most {limit:g} points of top-1 lost",
    }[kind]
    point = proposal.point
    plural = "" if point.n_binary == 1 else "s"
    return (
        f"for {asked}: {point.n_binary} binary layer{plural}, {byte_size(point.packed_bytes)}, "
        f"about {digits(1e3 * point.seconds)} ms, top-1 {bare_percent(point.top1)} % "
        "before any training"
    )


def convert_line(proposal: Proposal, source: Sequence[str], rest: Sequence[str]) -> str:
    """The command that carries a proposal out.

    Args:
        proposal: its `keep` rules are named.
        source: words that name the network.
        rest: further words: plan options, data.
    """
    keep = [word for rule in proposal.options.keep for word in ("--keep", rule)]
    return shlex.join(["irbin", "convert", *source, *keep, *rest])
