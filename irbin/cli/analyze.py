"""`irbin analyze`: which layers bear binarization, and what to keep float for a budget."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from irbin.cli.console import (
    Stopped,
    check_json_target,
    json_alone,
    notes,
    results,
    say,
    write_json,
)
from irbin.cli.device import pick_device
from irbin.cli.flags import flat, given, words
from irbin.cli.live import counting
from irbin.cli.options import DataFlags, Device, Json, Report, Source, check_page
from irbin.cli.plan_options import PlanFlags
from irbin.cli.record_flags import Flags
from irbin.cli.source_options import SourceFlags
from irbin.errors import PlanError
from irbin.files import check_place, write_file
from irbin.records.analysis import Analysis, AnalysisOptions
from irbin.records.json import to_json
from irbin.report.analysis import (
    analysis_heading,
    convert_line,
    path_table,
    proposal_line,
    ranking_table,
)
from irbin.report.picture import check_picture, picture


class AnalysisFlags(Flags, record=AnalysisOptions):
    """What is measured, and for what budget."""

    def options(self) -> dict[str, Any]:
        """By field of `AnalysisOptions`, with bytes as a number.

        Raises:
            UsageError: they are none.
        """
        from irbin.analysis.budget import parse_bytes

        limit = None if self.max_bytes is None else parse_bytes(self.max_bytes, "--max-bytes")
        return {**vars(self), "max_bytes": limit}


@flat
def analyze(
    network: SourceFlags,
    plan: PlanFlags,
    data: DataFlags,
    measured: AnalysisFlags,
    source: Source = None,
    device: Device = "auto",
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw accuracy against size: a .png or .svg."),
    ] = None,
    page: Report = None,
    json_to: Json = None,
) -> None:
    """Find out which layers bear binarization, and what to keep float.

    Binarizes one layer at a time without training, measures the loss on a sample, and ranks by
    loss for each byte saved; then binarizes more and more of the ranking. With a budget, it
    proposes which layers to keep float and prints the convert command. Ctrl-C shows what was
    measured by then. What the numbers mean, and what they do not, is in docs/analyze.md.
    """
    check_json_target(json_to, network.checkpoint, source)
    check_page(page)
    if plot is not None:
        check_place(plot)
        check_picture(plot)
    asked = {**measured.options(), **given(plan)}
    spec, options = network.named(source), data.options()
    from irbin.analysis.analyze import analyze as measure

    with json_alone(json_to), counting(f"analyzing {spec}") as report:
        record = measure(
            spec,
            data=options,
            source_options=network.options(source),
            device=pick_device(device),
            report=report,
            **asked,
        )
    _print(record, json_to)
    command = None
    if record.proposal is not None:
        named = ([] if source is None else [source]) + words(network)
        rest = [*words(plan, without=("keep",)), *words(data), "-o", "CONVERTED"]
        command = convert_line(record.proposal, named, rest)
        say(results(json_to), command)
    write_json(to_json(record), json_to)
    if page is not None:
        from irbin.html.analysis import analysis_page
        from irbin.html.page import write_page

        write_page(page, analysis_page(record, command))
        say(notes(), f"wrote {page}", style="dim")
    if plot is not None and record.path:
        write_file(plot, picture(record, plot.suffix))
        say(notes(), f"wrote {plot}", style="dim")
    _end(record)


def _print(record: Analysis, json_to: str | None) -> None:
    screen = results(json_to)
    say(screen, analysis_heading(record), style="bold")
    screen.print(ranking_table(record, screen.width))
    if len(record.path) > 1:
        screen.print()
        screen.print(path_table(record, screen.width))
    for note in record.notes:
        say(screen, note, style="yellow")
    if record.proposal is not None:
        say(screen, proposal_line(record.proposal), style="bold")


def _end(record: Analysis) -> None:
    """Leaves with an error where the user did not get what was asked for.

    Raises:
        PlanError: no measured network keeps the budget.
    """
    if record.interrupted:
        say(notes(), "stopped by Ctrl-C; above is what was measured until then", style="yellow")
        raise Stopped
    if record.unmet:
        raise PlanError(record.unmet)
