"""A bar a layer, one below the other: two drawings that plans and measurements share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from irbin.html.blocks import Drawing
from irbin.html.svg import INK, LINE, SERIES, drawn, label

_WIDTH, _ROW, _AROUND = 345.0, 13.0, 60.0
MOST_BARS = 120
"""Layers drawn; the table has all."""


class Part(NamedTuple):
    """One color of stacked bars."""

    name: str
    color: int
    """Number of the page's color."""
    values: Sequence[float]
    """One a layer, none below 0."""


def stacked(title: str, names: Sequence[str], parts: Sequence[Part]) -> Drawing:
    """Bars of several parts, one after the other.

    Args:
        title: what is measured, with its unit.
        names: of the layers, the first on top.
        parts: from left to right.
    """
    names = names[:MOST_BARS]

    def draw(axes: Any) -> None:
        left = [0.0] * len(names)
        for part in parts:
            values = list(part.values[: len(names)])
            axes.barh(
                range(len(names)), values, 0.8, left=left, color=SERIES[part.color], label=part.name
            )
            left = [a + b for a, b in zip(left, values, strict=True)]
        _dress(axes, names)
        _name_parts(axes)
        axes.set_xlim(0, 1.02 * (max(left, default=0.0) or 1.0))

    told = "; ".join(f"{part.name} {sum(part.values):.4g} in all" for part in parts)
    return _made(draw, title, names, told)


def beside(
    title: str, names: Sequence[str], first: Part, second: Part, margins: Sequence[float] = ()
) -> Drawing:
    """Wide bars, and on each a narrow one in another color.

    Args:
        title: what is measured, with its unit.
        names: of the layers, the first on top.
        first: wide.
        second: narrow; without values there is none.
        margins: what each of the wide ones may be off.
    """
    names = names[:MOST_BARS]
    n = len(names)

    def draw(axes: Any) -> None:
        axes.barh(range(n), first.values[:n], 0.8, color=SERIES[first.color], label=first.name)
        if second.values:
            narrow = {"height": 0.3, "color": SERIES[second.color], "label": second.name}
            axes.barh(range(n), second.values[:n], **narrow)
        if margins:
            axes.errorbar(first.values[:n], range(n), xerr=margins[:n], fmt="none", ecolor=INK)
        _dress(axes, names)
        if second.values:
            _name_parts(axes)

    largest = max(range(n), key=lambda i: first.values[i], default=0)
    told = f"the largest is {names[largest]} with {first.values[largest]:.4g}" if n else "none"
    return _made(draw, title, names, told)


def finite(value: float) -> float:
    """A bar's length: 0 for what is no number."""
    return value if math.isfinite(value) else 0.0


def _made(draw: Callable[[Any], None], title: str, names: Sequence[str], told: str) -> Drawing:
    svg, width = drawn(draw, (_WIDTH, _AROUND + _ROW * max(len(names), 2)))
    return Drawing(svg, width, f"{title}, {len(names)} bars: {told}", title)


def _name_parts(axes: Any) -> None:
    """What the colors are, above the bars, where none of them reaches."""
    place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2}
    axes.legend(frameon=False, ncols=2, labelcolor=INK, fontsize=8, **place)


def _dress(axes: Any, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [label(name, 22) for name in names], fontsize=8)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(color=LINE, axis="x")
    axes.tick_params(axis="y", length=0)
    axes.locator_params(axis="x", nbins=5)
