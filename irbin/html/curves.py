"""How training went, drawn: a figure over the epochs each, and layers over the epochs as a map."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from irbin.html.blocks import Drawing
from irbin.html.charts import WIDTH
from irbin.html.svg import DASHES, INK, LINE, N_COLORS, SERIES, drawn, label
from irbin.messages import counted
from irbin.records.training import EpochRecord, LayerDiagnostics
from irbin.report.curves import PANELS, Line, Panel, Runs
from irbin.report.units import number

_HEIGHT = 170.0


def look(place: int) -> tuple[str, str]:
    """(color, dashes) of one of several runs."""
    return SERIES[place % N_COLORS], DASHES[place // N_COLORS % len(DASHES)]


def curve(runs: Runs, name: str) -> Drawing:
    """One of the panels of `report.curves`: of one run its lines in colors, of several each in one.

    Args:
        runs: what to draw.
        name: of a panel.
    """
    panel = PANELS[name]

    def draw(axes: Any) -> None:
        for place, epochs in enumerate(runs.values()):
            for at, line in enumerate(panel.lines):
                _plot(axes, epochs, line, panel.factor, *_style(len(runs), place, at, panel))
        axes.grid(color=LINE)
        axes.xaxis.get_major_locator().set_params(integer=True, nbins=6)
        axes.set_xlabel("epoch")
        if panel.log:
            axes.set_yscale("log")
            axes.minorticks_off()
            _plain_powers(axes)
        elif panel.from_zero:
            axes.set_ylim(0, 1.04 * _highest(runs, panel))
        if len(panel.lines) > 1:
            _name_lines(axes, panel, len(runs))

    svg, width = drawn(draw, (WIDTH, _HEIGHT))
    told = [f"{run}, {_course(epochs, panel)}" for run, epochs in runs.items()]
    return Drawing(svg, width, f"{panel.title}: {'; '.join(told)}", panel.title)


def waits(epochs: Sequence[EpochRecord]) -> Drawing:
    """Seconds of every epoch, and those of them in which steps waited for images."""
    seconds = [one.seconds for one in epochs]
    waited = [one.seconds * (0.0 if math.isnan(one.waiting) else one.waiting) for one in epochs]

    def draw(axes: Any) -> None:
        places = [one.epoch + 1 for one in epochs]
        axes.bar(places, seconds, width=0.9, color=SERIES[0], label="computing")
        axes.bar(places, waited, width=0.9, color=SERIES[1], label="waiting for images")
        axes.grid(color=LINE, axis="y")
        axes.xaxis.get_major_locator().set_params(integer=True, nbins=6)
        axes.set_xlabel("epoch")
        axes.set_ylim(0, 1.3 * (max(seconds, default=1.0) or 1.0))
        axes.legend(frameon=False, loc="upper left", ncols=2, labelcolor=INK)

    title = "seconds an epoch"
    svg, width = drawn(draw, (WIDTH * 1.5, _HEIGHT))
    share = sum(waited) / sum(seconds) if sum(seconds) else 0.0
    alt = f"{title}: {number(min(seconds))} to {number(max(seconds))}, {100 * share:.1f} % waiting"
    return Drawing(svg, width, alt, title)


def layer_map(
    rows: Sequence[LayerDiagnostics], field: str, title: str, shown: Callable[[float], str] = number
) -> Drawing:
    """One figure of every binary layer over the epochs, the first layer on top; bright is high.

    Args:
        rows: at least one with a finite figure.
        field: of `LayerDiagnostics`.
        title: what it is, with its unit.
        shown: a figure as text.
    """
    layers = list(dict.fromkeys(row.layer for row in rows))
    values = {(row.layer, row.epoch): float(getattr(row, field)) for row in rows}
    epochs = range(min(row.epoch for row in rows), max(row.epoch for row in rows) + 1)
    cells = [[values.get((layer, epoch), math.nan) for epoch in epochs] for layer in layers]

    def draw(axes: Any) -> None:
        edges = (epochs[0] + 0.5, epochs[-1] + 1.5, len(layers) - 0.5, -0.5)
        image = axes.imshow(
            cells, aspect="auto", extent=edges, cmap="viridis", interpolation="nearest"
        )
        axes.set_yticks(range(len(layers)), [label(layer, 22) for layer in layers], fontsize=8)
        axes.xaxis.get_major_locator().set_params(integer=True, nbins=6)
        axes.set_xlabel("epoch")
        bar = axes.figure.colorbar(image, ax=axes, pad=0.02)
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=8)

    svg, width = drawn(draw, (WIDTH * 1.15, max(90.0, 11.0 * len(layers) + 46)))
    finite = {key: value for key, value in values.items() if math.isfinite(value)}
    low, high = min(finite, key=finite.__getitem__), max(finite, key=finite.__getitem__)
    alt = (
        f"{title} of {counted(len(layers), 'layer')} over {counted(len(epochs), 'epoch')}: from "
        f"{shown(finite[low])} ({low[0]}, epoch {low[1] + 1}) to {shown(finite[high])} "
        f"({high[0]}, epoch {high[1] + 1})"
    )
    return Drawing(svg, width, alt, title)


def _points(epochs: Sequence[EpochRecord], field: str) -> list[tuple[int, float]]:
    pairs = ((one.epoch + 1, float(getattr(one, field))) for one in epochs)
    return [(epoch, value) for epoch, value in pairs if math.isfinite(value)]


def _highest(runs: Runs, panel: Panel) -> float:
    """Of a panel's figures, above 0 always."""
    values = (
        panel.factor * value
        for epochs in runs.values()
        for line in panel.lines
        for _, value in _points(epochs, line.field)
    )
    return max(values, default=0.0) or 1.0


def _style(n_runs: int, place: int, at: int, panel: Panel) -> tuple[str, str, float]:
    """(color, dashes, width): runs by color and lines by width, or lines by color."""
    if n_runs == 1:
        last = len(panel.lines) - 1
        return SERIES[last - at], DASHES[last - at], 1.6
    color, dashes = look(place)
    first_of_two = len(panel.lines) > 1 and at == 0
    return color, dashes, 0.8 if first_of_two else 1.8


def _plot(
    axes: Any,
    epochs: Sequence[EpochRecord],
    line: Line,
    factor: float,
    color: str,
    dashes: str,
    width: float,
) -> None:
    points = _points(epochs, line.field)
    axes.plot(
        [x for x, _ in points],
        [factor * y for _, y in points],
        color=color,
        linestyle=dashes,
        linewidth=width,
        marker="o" if len(points) == 1 else None,  # a line of one point is not seen
        markersize=4,
    )


def _name_lines(axes: Any, panel: Panel, n_runs: int) -> None:
    from matplotlib.lines import Line2D

    handles = []
    for at, line in enumerate(panel.lines):
        color, dashes, width = _style(n_runs, 0, at, panel)
        one = INK if n_runs > 1 else color
        kind = "-" if n_runs > 1 else dashes
        handles.append(Line2D([], [], color=one, linestyle=kind, linewidth=width, label=line.label))
    above = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "borderaxespad": 0.2}
    axes.legend(
        handles=handles, frameon=False, labelcolor=INK, fontsize=8, ncols=len(handles), **above
    )


def _plain_powers(axes: Any) -> None:
    """Ticks as `0.1`, not as powers, which are mathematics of several heights."""
    axes.yaxis.set_major_formatter(lambda value, _place: f"{value:g}")


def _course(epochs: Sequence[EpochRecord], panel: Panel) -> str:
    """From where to where every line goes, in words."""
    told = []
    for line in panel.lines:
        points = _points(epochs, line.field)
        if points:
            ends = (number(panel.factor * points[0][1]), number(panel.factor * points[-1][1]))
            told.append(f"{line.label} {ends[0]} to {ends[1]}".strip())
    return ", ".join(told) or "nothing measured"
