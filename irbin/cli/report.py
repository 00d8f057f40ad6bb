"""`irbin report`: one or several runs as a page to look at."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from irbin.cli.console import notes, say
from irbin.cli.flags import flat
from irbin.cli.spelling import as_typed
from irbin.runs.tables import run_names


@flat
def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Run folders of irbin finetune.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE.html",
            show_default="report.html in RUN, or here for several",
            help="Page to write; an earlier report is replaced.",
        ),
    ] = None,
) -> None:
    """Show a run, or several beside each other, as a page of HTML.

    Of one run: how it ended and what was wrong, curves, layers over the epochs, stages, its recipe
    against the default, and where the time went. Of several: what differs in their arguments,
    curves over each other, a table with seeds, and the classes that moved most. The page is one
    file that loads nothing; a run that is still going on can be shown. Networks are shown by irbin
    eval --report, plans by irbin inspect --report.
    """
    from irbin.html.comparison import comparison_page
    from irbin.html.page import check_report, write_page
    from irbin.html.run import run_page
    from irbin.training.recorded import read_run

    folders = list({os.path.abspath(run): run for run in runs}.values())  # each once
    named = zip(folders, run_names(folders), strict=True)
    recorded = [read_run(run, name) for run, name in named]
    target = out
    if target is None:
        target = (folders[0] if len(folders) == 1 else Path()) / "report.html"
    check_report(target, "irbin report" if out is None else "-o")
    if len(recorded) == 1:
        page = run_page(recorded[0], as_typed)
    else:
        page = comparison_page(recorded, as_typed)
    write_page(target, page)
    say(notes(), f"wrote {target}", style="dim")
