"""Accuracy against size as a picture: measured networks, the Pareto front, the proposal.

What every picture shares is here too: the checks before, the style, the bytes. matplotlib is
imported when a picture is asked for.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from irbin.errors import UsageError
from irbin.messages import counted
from irbin.records.analysis import Analysis, PathPoint, Proposal
from irbin.report.units import bare_percent, byte_size

FORMATS = (".png", ".svg")

INK, FAINT = "#222222", "#8a8a8a"
_LINE, _FLOAT, _BINARY, _CHOSEN = "#1f5fa8", "#c77700", "#2a8a3e", "#c0232c"


def check_picture(path: Path, flag: str = "--plot") -> None:
    """Refuses a picture that could not be written, before any long work.

    Args:
        path: where it is to be.
        flag: the option that said so.

    Raises:
        UsageError: another format, no such folder, or matplotlib is missing.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"`{flag}`: expected a file ending in .png or .svg, got `{path}`")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise UsageError(f"`{flag}`: the folder of {path} does not exist; make it first")
    try:
        import matplotlib.figure  # noqa: F401  # a tenth of a second, asked before minutes
    except ImportError as error:
        raise UsageError(
            f"`{flag}` needs matplotlib, which is not installed: pip install 'irbin[plot]'"
        ) from error


def picture(record: Analysis, suffix: str) -> bytes:
    """The picture as a file's content.

    Args:
        record: at least one point of its path was measured.
        suffix: of `FORMATS`.
    """
    return drawn(lambda figure: _draw(figure.add_subplot(), record), (7.2, 4.5), suffix)


def drawn(draw: Callable[[Any], None], size: tuple[float, float], suffix: str) -> bytes:
    """What `draw` puts on a figure as a file's content; the same drawing gives the same bytes.

    Args:
        draw: called with a matplotlib figure.
        size: (width, height), inches.
        suffix: of `FORMATS`.
    """
    import matplotlib
    from matplotlib.figure import Figure

    style = {"font.size": 10, "svg.hashsalt": "irbin", "axes.edgecolor": FAINT}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        out = io.BytesIO()
        kind = suffix.lower().removeprefix(".")
        metadata = {"Date": None} if kind == "svg" else {"Software": None}  # the same file again
        figure.savefig(out, format=kind, dpi=120, metadata=metadata)
    return out.getvalue()


def plain_axes(axes: Any) -> None:
    """A faint grid behind, no frame at the top and the right, dark words."""
    axes.grid(color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(which="both", colors=FAINT, labelcolor=INK)


def _draw(axes: Any, record: Analysis) -> None:
    proposal = record.proposal.point if record.proposal is not None else None
    divisor, unit = _unit(max(p.packed_bytes for p in record.path))

    def place(points: Sequence[PathPoint]) -> tuple[list[float], list[float]]:
        return [p.packed_bytes / divisor for p in points], [p.top1 for p in points]

    shown = [*record.path, *([proposal] if proposal is not None else [])]
    best = sorted((p for p in shown if p.on_front), key=lambda p: p.packed_bytes)
    axes.plot(*place(best), color=_LINE, linewidth=1.6, zorder=2, label="Pareto front")
    for point in record.path[1:]:
        face = _LINE if point.on_front else "white"
        axes.plot(*place([point]), "o", color=_LINE, markerfacecolor=face, markersize=6, zorder=3)
    _name(axes, record.path[0], place, "s", _FLOAT, "float", (-12, 0), "right")
    if len(record.path) > 1 and not record.interrupted:
        _name(axes, record.path[-1], place, "D", _BINARY, "all binary", (12, -2), "left")
    if record.proposal is not None:
        _mark(axes, record.proposal, record.path[0], place, divisor)
    _dress(axes, record, unit)


Place = Callable[[Sequence[PathPoint]], tuple[list[float], list[float]]]
"""Horizontal and vertical positions of points."""


def _name(
    axes: Any,
    point: PathPoint,
    place: Place,
    mark: str,
    color: str,
    name: str,
    offset: tuple[int, int],
    side: str,
) -> None:
    """One network with its name and accuracy beside it."""
    (x,), (y,) = place([point])
    axes.plot(x, y, mark, color=color, markersize=8.5, zorder=4)
    axes.annotate(
        f"{name}, {bare_percent(point.top1)} %",
        (x, y),
        offset,
        textcoords="offset points",
        ha=side,
        va="center",
        color=color,
    )


def _mark(axes: Any, proposal: Proposal, base: PathPoint, place: Place, divisor: float) -> None:
    """The proposal, and its budget where it is one of the axes."""
    point, budget = proposal.point, proposal.budget
    axes.plot(
        *place([point]),
        "*",
        color=_CHOSEN,
        markersize=17,
        markeredgecolor="white",
        markeredgewidth=0.8,
        zorder=5,
        linestyle="none",
        label=f"proposed: {byte_size(point.packed_bytes)}, {bare_percent(point.top1)} %",
    )
    line = {"color": _CHOSEN, "linewidth": 1, "linestyle": (0, (4, 4)), "zorder": 1}
    if budget.kind == "bytes":
        axes.axvline(budget.limit / divisor, label=f"budget: {byte_size(budget.limit)}", **line)
    elif budget.kind == "drop":
        axes.axhline(base.top1 - budget.limit, label=f"budget: {budget.limit:g} points", **line)


def _dress(axes: Any, record: Analysis, unit: str) -> None:
    axes.set_xlabel(f"packed size, {unit}", color=INK)
    axes.set_ylabel(f"top-1 on {counted(record.n_images, 'image')}, %", color=INK)
    name = Path(record.source).name or record.source
    axes.set_title(
        f"{name} at {record.options.bits}: accuracy against size, before any training",
        loc="left",
        fontsize=11,
        color=INK,
    )
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    plain_axes(axes)
    axes.legend(frameon=False, loc="best", labelcolor=INK)


def _unit(n_bytes: int) -> tuple[float, str]:
    return (1e6, "MB") if n_bytes >= 1e6 else (1e3, "kB")
