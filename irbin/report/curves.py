"""How training went, as a picture: a panel a figure, a line a run, and layers as a heat map.

Thin lines are training, thick ones validation. matplotlib is imported when a picture is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from irbin.records.training import EpochRecord, LayerDiagnostics
from irbin.report.picture import FAINT, INK, drawn, plain_axes
from irbin.report.units import percent

THIN, USUAL, THICK = {"linewidth": 0.9, "alpha": 0.7}, {"linewidth": 1.6}, {"linewidth": 2.0}
DASHED = {"linewidth": 1.4, "linestyle": "--"}

_COLORS = (
    "#1f5fa8",
    "#c77700",
    "#2a8a3e",
    "#c0232c",
    "#7a4fa3",
    "#1a9c9c",
    "#8a5a3b",
    "#d1559b",
    "#6b6b6b",
    "#a3a300",
)
_LONGEST_NAME = 40
_PANEL = (4.8, 2.7)
"""(width, height), inches."""

Runs = Mapping[str, Sequence[EpochRecord]]
"""Name → epochs; at least one of each."""


@dataclass(frozen=True)
class Line:
    """One field of `EpochRecord` in a panel."""

    field: str
    style: Mapping[str, Any]
    label: str = ""
    """Beside its style in the panel's legend; not needed where a panel has one line."""


@dataclass(frozen=True)
class Panel:
    """One figure over the epochs."""

    title: str
    lines: tuple[Line, ...]
    factor: float = 1.0
    """Shown is the field times this."""
    log: bool = False
    from_zero: bool = True


def _train_and_val(train: str, val: str) -> tuple[Line, Line]:
    return Line(train, THIN, "training"), Line(val, THICK, "validation")


PANELS: dict[str, Panel] = {
    "loss": Panel("loss", _train_and_val("train_loss", "eval_loss"), from_zero=False),
    "accuracy": Panel("top-1, %", _train_and_val("train_top1", "eval_top1"), from_zero=False),
    "lr": Panel("learning rate", (Line("lr", USUAL),)),
    "ede": Panel("EDE: t, k", (Line("t", USUAL, "t"), Line("k", DASHED, "k")), log=True),
    "flips": Panel("signs flipped in an epoch, %", (Line("flip_ratio", USUAL),), factor=100),
    "speed": Panel("images/s", (Line("images_per_second", USUAL),)),
    "waiting": Panel("time waiting for images, %", (Line("waiting", USUAL),), factor=100),
    "never-flipped": Panel("weights never flipped, %", (Line("never_flipped", USUAL),), factor=100),
    "gradient": Panel(
        "usable gradient, %",
        (
            Line("weight_gradient", USUAL, "weights"),
            Line("activation_gradient", DASHED, "activations"),
        ),
        factor=100,
    ),
    "entropy": Panel(
        "entropy of signs, bits",
        (
            Line("weight_entropy", USUAL, "weights"),
            Line("activation_entropy", DASHED, "activations"),
        ),
    ),
    "dead-channels": Panel("dead input channels, %", (Line("dead_channels", USUAL),), factor=100),
    "statistics-gap": Panel("batch norm's gap, deviations", (Line("statistics_gap", USUAL),)),
}
"""By the name that `--metric` takes, in the order they are drawn."""

DEFAULT_PANELS = ("loss", "accuracy", "lr", "ede", "flips", "speed")


def panels_with_figures(runs: Runs, wanted: Sequence[str]) -> list[str]:
    """Those of the `wanted` panels for which any run has a figure, in the order of `PANELS`."""
    return [name for name in PANELS if name in wanted and _has_figures(PANELS[name], runs)]


def curves(runs: Runs, panels: Sequence[str], suffix: str) -> bytes:
    """The picture as a file's content, two panels beside each other.

    Args:
        runs: what to draw.
        panels: what `panels_with_figures` gave; at least one.
        suffix: of `picture.FORMATS`.
    """
    n_columns = min(2, len(panels))
    n_rows = math.ceil(len(panels) / n_columns)
    n_legend_rows = math.ceil(len(runs) / n_columns)
    size = (_PANEL[0] * n_columns, _PANEL[1] * n_rows + 0.2 * n_legend_rows + 0.2)

    def draw(figure: Any) -> None:
        figure.get_layout_engine().set(w_pad=0.08, h_pad=0.06)
        colors = line_colors(len(runs))
        for place, name in enumerate(panels, 1):
            axes = figure.add_subplot(n_rows, n_columns, place)
            for (_, epochs), color in zip(runs.items(), colors, strict=True):
                for line in PANELS[name].lines:
                    _plot(axes, epochs, line, PANELS[name].factor, color)
            _dress(axes, PANELS[name])
            if place > len(panels) - n_columns:  # the lowest of its column
                axes.set_xlabel("epoch", color=INK)
        _name_runs(figure, runs, colors, n_columns)

    return drawn(draw, size, suffix)


def layer_map(name: str, rows: Sequence[LayerDiagnostics], field: str, suffix: str) -> bytes:
    """One figure of every binary layer over the epochs, as a heat map, the first layer on top.

    Args:
        name: the run's.
        rows: at least one; of two for the same epoch and layer the later one holds.
        field: a share or another number of `LayerDiagnostics`.
        suffix: of `picture.FORMATS`.
    """
    layers = list(dict.fromkeys(row.layer for row in rows))
    values = {(row.layer, row.epoch): float(getattr(row, field)) for row in rows}
    epochs = range(min(row.epoch for row in rows), max(row.epoch for row in rows) + 1)
    table = [[values.get((layer, epoch), math.nan) for epoch in epochs] for layer in layers]

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        edges = (epochs[0] + 0.5, epochs[-1] + 1.5, len(layers) - 0.5, -0.5)
        axes.set_facecolor("#eeeeee")  # what was not measured
        image = axes.imshow(
            table, aspect="auto", extent=edges, cmap="viridis", interpolation="nearest"
        )
        axes.set_yticks(range(len(layers)), layers, fontsize=8)
        axes.tick_params(colors=FAINT, labelcolor=INK)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlabel("epoch", color=INK)
        title = f"{_short(name)}: {field.replace('_', ' ')}"
        axes.set_title(title, loc="left", fontsize=11, color=INK)
        figure.colorbar(image, ax=axes, pad=0.02).outline.set_visible(False)

    return drawn(draw, (7.2, max(2.4, 0.17 * len(layers) + 1.0)), suffix)


def _points(epochs: Sequence[EpochRecord], field: str) -> list[tuple[int, float]]:
    """(epoch counted from 1, figure) wherever there is one: not every epoch is evaluated."""
    pairs = ((epoch.epoch + 1, float(getattr(epoch, field))) for epoch in epochs)
    return [(epoch, value) for epoch, value in pairs if math.isfinite(value)]


def _has_figures(panel: Panel, runs: Runs) -> bool:
    return any(_points(epochs, line.field) for epochs in runs.values() for line in panel.lines)


def _plot(axes: Any, epochs: Sequence[EpochRecord], line: Line, factor: float, color: str) -> None:
    points = _points(epochs, line.field)
    mark = "o" if len(points) == 1 else None  # a line of one point is not seen
    axes.plot(
        [x for x, _ in points],
        [factor * y for _, y in points],
        color=color,
        marker=mark,
        markersize=4,
        **line.style,
    )


def _dress(axes: Any, panel: Panel) -> None:
    from matplotlib.lines import Line2D

    plain_axes(axes)
    axes.set_title(panel.title, loc="left", fontsize=11, color=INK)
    axes.xaxis.get_major_locator().set_params(integer=True)
    if panel.log:
        axes.set_yscale("log")
        axes.minorticks_off()
    elif panel.from_zero:
        axes.set_ylim(0, 1.04 * axes.get_ylim()[1])
    labelled = [line for line in panel.lines if line.label]
    if labelled:
        handles = [Line2D([], [], color=INK, label=line.label, **line.style) for line in labelled]
        above = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.0), "ncols": len(handles)}
        axes.legend(handles=handles, frameon=False, labelcolor=INK, fontsize=9, **above)


def _name_runs(figure: Any, runs: Runs, colors: Sequence[str], n_columns: int) -> None:
    """Every run's name beside its color, and its best accuracy."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=color, linewidth=3, label=_title(name, epochs))
        for (name, epochs), color in zip(runs.items(), colors, strict=True)
    ]
    figure.legend(
        handles=handles,
        loc="outside upper left",
        ncols=min(n_columns, len(handles)),
        frameon=False,
        labelcolor=INK,
    )


def _title(name: str, epochs: Sequence[EpochRecord]) -> str:
    """`run, best top-1 88.90 %`; no accuracy where nothing was evaluated."""
    best = max((top1 for _, top1 in _points(epochs, "eval_top1")), default=math.nan)
    return _short(name) if math.isnan(best) else f"{_short(name)}, best top-1 {percent(best)}"


def _short(name: str) -> str:
    """A long name without its middle."""
    half = _LONGEST_NAME // 2
    return name if len(name) <= _LONGEST_NAME else f"{name[:half]}…{name[1 - half :]}"


def line_colors(n: int) -> Sequence[str]:
    """As many, told apart as well as can be."""
    if n <= len(_COLORS):
        return _COLORS[:n]
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(colormaps["turbo"](0.05 + 0.9 * i / (n - 1))) for i in range(n)]
