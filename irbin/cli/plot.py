"""`irbin plot`: the curves of one or several runs as a picture."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated

import typer

from irbin.cli.console import notes, say
from irbin.cli.flags import flat
from irbin.errors import SourceError, UsageError
from irbin.files import check_place, write_file
from irbin.records.training import LayerDiagnostics
from irbin.report.curves import DEFAULT_PANELS, PANELS, Runs, curves, layer_map, panels_with_figures
from irbin.report.picture import check_picture
from irbin.runs.tables import read_diagnostics, read_summary, run_names

LAYER_FIGURES = tuple(f.name for f in fields(LayerDiagnostics) if f.type == "float")
"""Columns of diagnostics.csv."""


def complete_metric(incomplete: str) -> list[str]:
    """Names of the figures that can be drawn, for the shell's completion."""
    return [name for name in PANELS if name.startswith(incomplete)]


def complete_layers(incomplete: str) -> list[str]:
    """Columns of diagnostics.csv that can be drawn, for the shell's completion."""
    return [name for name in LAYER_FIGURES if name.startswith(incomplete)]


@flat
def plot(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Run folders of irbin finetune.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            show_default="curves.png in RUN, or here for several",
            help="Picture to write: a .png or .svg.",
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            show_default=", ".join(DEFAULT_PANELS),
            autocompletion=complete_metric,
            help=f"What to draw, repeatable: {', '.join(PANELS)}.",
        ),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            autocompletion=complete_layers,
            help="Draw this column of diagnostics.csv instead (flip_ratio, …): one run as a heat "
            "map of its binary layers.",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the picture if it exists.")
    ] = False,
) -> None:
    """Draw loss, accuracy, learning rate, EDE phase, flip ratio and speed over the epochs.

    Several runs share the panels, a color each; thin lines are training, thick ones validation.
    A run that is still going on can be drawn.
    """
    folders = list({os.path.abspath(run): run for run in runs}.values())  # each once
    if layers is None:
        summaries = dict(zip(run_names(folders), map(read_summary, folders), strict=True))
        panels = _panels(summaries, metric)
        target = _target(folders, out, "curves.png", overwrite)
        content = curves(summaries, panels, target.suffix)
    else:
        rows = _layer_rows(folders, layers, metric)
        target = _target(folders, out, "layers.png", overwrite)
        content = layer_map(run_names(folders)[0], rows, layers, target.suffix)
    write_file(target, content)
    say(notes(), f"wrote {target}", style="dim")


def _panels(runs: Runs, wanted: Sequence[str] | None) -> list[str]:
    """What is drawn: a figure that no run has is left out, and told where it was asked for.

    Raises:
        UsageError: no such figure.
        SourceError: nothing is left.
    """
    unknown = ", ".join(f"`{name}`" for name in wanted or () if name not in PANELS)
    if unknown:
        raise UsageError(f"`--metric`: expected one of {', '.join(PANELS)}, got {unknown}")
    panels = panels_with_figures(runs, wanted or DEFAULT_PANELS)
    missing = ", ".join(f"`{name}`" for name in wanted or () if name not in panels)
    if not panels:
        raise SourceError(f"no run has figures of {missing or 'anything'}; draw another `--metric`")
    if missing:
        say(notes(), f"note: no run has figures of {missing}", style="yellow")
    return panels


def _layer_rows(
    runs: Sequence[Path], column: str, metric: Sequence[str] | None
) -> list[LayerDiagnostics]:
    """What the heat map shows.

    Raises:
        UsageError: several runs, no such column, or `--metric` beside it.
        SourceError: the run has no diagnostics, or nothing in this column.
    """
    if len(runs) > 1 or metric:
        raise UsageError("`--layers` draws one run alone: leave out the others and `--metric`")
    if column not in LAYER_FIGURES:
        raise UsageError(f"`--layers`: expected one of {', '.join(LAYER_FIGURES)}, got `{column}`")
    rows = read_diagnostics(runs[0])
    if all(math.isnan(getattr(row, column)) for row in rows):
        raise SourceError(f"{runs[0]} has no figures of `{column}`; draw another")
    return rows


def _target(runs: Sequence[Path], out: Path | None, name: str, overwrite: bool) -> Path:
    """Where the picture goes.

    Raises:
        UsageError: it cannot be written, or stands there already; or matplotlib is missing.
    """
    target = out if out is not None else (runs[0] if len(runs) == 1 else Path()) / name
    check_place(target)
    check_picture(target, "irbin plot" if out is None else "-o")
    if target.exists() and not overwrite:
        raise UsageError(f"{target} exists; give another file with `-o`, or `--overwrite`")
    return target
