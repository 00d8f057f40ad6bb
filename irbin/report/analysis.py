"""How a network bears binarization, as tables: the ranking with a bar a layer, and the way down."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence

from rich.bar import Bar
from rich.table import Table
from rich.text import Text

from irbin.messages import counted
from irbin.records.analysis import Analysis, LayerAnalysis, PathPoint, Proposal
from irbin.report.fitting import Cell, fitting_table
from irbin.report.plan import BINARY_STYLE, FLOAT_STYLE
from irbin.report.units import DASH, bare_percent, byte_size, digits, number

BAR_WIDTH = 8


def analysis_heading(record: Analysis) -> str:
    """What was measured, and on what."""
    base = record.path[0] if record.path else None
    parts = [f"{record.source}: one {record.by} at a time, {record.options.bits}"]
    if base is not None:
        parts.append(f"float top-1 {bare_percent(base.top1)} % and loss {number(base.loss)}")
    parts.append(f"{counted(record.n_images, 'image')}")
    if record.n_calibration:
        parts.append(f"batch norm of {record.n_calibration:,} training images")
    return ", ".join(parts)


def ranking_table(record: Analysis, width: int) -> Table:
    """A row a layer or block in the order of binarizing, with the loss it adds alone.

    Names stay whole: where there is no room for a column, it is left out; the JSON has it.
    """
    rate = "loss/ms" if record.ranked_by == "time" else "loss/MB"
    numbers = ("loss", "±", "top-1 %", "saves", rate)
    planned = ("plan",) if record.proposal is not None else ()
    finite = [x.loss_increase for x in record.layers if math.isfinite(x.loss_increase)]
    largest = max([0.0, *finite])
    rows = [_ranking_row(layer, largest, record) for layer in record.layers]
    return fitting_table(
        (record.by, "loss", "±", "", "top-1 %", "saves", rate, *planned),
        rows,
        width,
        left_out=("±", "", "saves", "top-1 %", rate, *planned),
        numbers=numbers,
    )


def _ranking_row(layer: LayerAnalysis, largest: float, record: Analysis) -> list[Cell]:
    whole = math.isfinite(layer.loss_increase)
    share = max(layer.loss_increase, 0) if whole else largest
    if record.ranked_by == "time":
        saved, shown = 1e3 * layer.seconds_saved, f"{1e6 * layer.seconds_saved:,.0f} µs"
    else:
        saved, shown = layer.bytes_saved / 1e6, byte_size(layer.bytes_saved)
    cells: list[Cell] = [
        layer.name,
        f"{layer.loss_increase:+.3f}" if whole else DASH,
        f"{layer.standard_error:.3f}" if math.isfinite(layer.standard_error) else DASH,
        Bar(largest or 1.0, 0, share, width=BAR_WIDTH, color="cyan" if whole else "red"),
        bare_percent(layer.top1),
        shown,
        _rate(layer.loss_increase / saved) if whole and saved > 0 else DASH,
    ]
    return cells if record.proposal is None else [*cells, _fate(layer, record.proposal)]


def _rate(value: float) -> str:
    """Two digits with a sign, no exponent where it is large: `+3.2`, `+133`."""
    return f"{value:+,.0f}" if abs(value) >= 99.5 else f"{value:+.2g}"


def _fate(layer: LayerAnalysis, proposal: Proposal) -> Text:
    if layer.layers[0] in proposal.binary:
        return Text("binary", BINARY_STYLE)
    return Text("float", FLOAT_STYLE)


def path_table(record: Analysis, width: int) -> Table:
    """A row a measured network from float to binary, the proposal last; ● marks the front.

    Where there is no room for a column, it is left out.
    """
    points = [(point, "float network" * (i == 0)) for i, point in enumerate(record.path)]
    if record.proposal is not None:
        points.append((record.proposal.point, "proposed"))
    numbers = ("binary layers", "size", "≈ ms", "top-1 %", "loss")
    return fitting_table(
        (*numbers, "front", ""),
        [[*_path_row(point), said] for point, said in points],
        width,
        left_out=("front", "≈ ms", "loss"),
        numbers=numbers,
        styles={} if record.proposal is None else {len(record.path): "bold"},
    )


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
