"""Small drawings that several pages share: bars beside each other, accuracy against confidence."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from irbin.html.blocks import Drawing
from irbin.html.svg import INK, LINE, MUTED, SERIES, drawn, label
from irbin.records.counts import N_BINS, Counts

WIDTH = 330.0
"""Points of a drawing of which two or three stand beside each other."""
_ROW, _AROUND = 18.0, 14.0


def bars(
    title: str,
    named: Sequence[tuple[str, float]],
    shown: Callable[[float], str],
    margins: Sequence[float] | None = None,
) -> Drawing:
    """A bar a thing, its figure at its end.

    Args:
        title: what is measured, with its unit.
        named: (name, value); nan has no bar.
        shown: a value as text.
        margins: what each may be off, drawn as a whisker.
    """
    values = [value if math.isfinite(value) else 0.0 for _, value in named]
    offs = [off if math.isfinite(off) else 0.0 for off in margins or [0.0] * len(values)]
    reach = [value + off for value, off in zip(values, offs, strict=True)]

    def draw(axes: Any) -> None:
        places = range(len(values))
        axes.barh(places, values, height=0.62, color=SERIES[0])
        if margins is not None:
            axes.errorbar(values, places, xerr=offs, fmt="none", ecolor=INK, capsize=3)
        for place, end in enumerate(reach):
            axes.annotate(
                label(shown(named[place][1])),
                (end, place),
                (5, 0),
                textcoords="offset points",
                va="center",
            )
        axes.set_yticks(places, [label(name, 24) for name, _ in named])
        axes.set_ylim(len(values) - 0.45, -0.55)
        axes.set_xlim(0, (max(reach, default=0.0) or 1.0) * 1.42)  # room for the figures
        axes.tick_params(axis="y", length=0)
        axes.spines["bottom"].set_visible(False)
        axes.set_xticks([])  # figures stand at the bars' ends

    size = (WIDTH, _AROUND + _ROW * len(values))
    svg, width = drawn(draw, size)
    told = ", ".join(f"{name} {shown(value)}" for name, value in named)
    return Drawing(svg, width, f"{title}: {told}", title)


def reliability(name: str, counts: Counts) -> Drawing:
    """How often answers were right, by how sure the network was of them."""

    def draw(axes: Any) -> None:
        axes.plot([0, 100], [0, 100], color=MUTED, linewidth=1, linestyle="--")
        most = max((one.n_images for one in counts.bins), default=1)
        for one in counts.bins:
            left = 100 * min(math.floor(one.confidence * N_BINS), N_BINS - 1) / N_BINS
            axes.bar(
                left,
                100 * one.accuracy,
                width=100 / N_BINS,
                align="edge",
                color=SERIES[0],
                alpha=0.25 + 0.75 * one.n_images / most,
                edgecolor=SERIES[0],
                linewidth=0.6,
            )
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 100)
        axes.grid(color=LINE)
        axes.set_xlabel("confidence, %")
        axes.set_ylabel("right, %")

    svg, width = drawn(draw, (WIDTH * 0.8, 210))
    error = counts.calibration_error
    title = f"{name}: off by {error:.2f} points on average"
    bins = "; ".join(
        f"{100 * one.confidence:.0f} % sure, {100 * one.accuracy:.0f} % right"
        for one in counts.bins
        if one.n_images
    )
    return Drawing(svg, width, f"{title}. {bins}", title)
