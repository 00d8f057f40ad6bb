"""`irbin convert`: a float network in, a binary one that can be fine-tuned out."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from irbin.cli.console import notes, results, say
from irbin.cli.flags import flat, given
from irbin.cli.inspect import print_totals
from irbin.cli.live import counting
from irbin.cli.options import DATA, DataFlags, Overwrite, PlanFlags, Source, SourceFlags
from irbin.errors import UsageError
from irbin.records import SourceOptions
from irbin.report.plan import shortcut_line

DEFAULT_CALIBRATION = 1024
"""Images for batch-norm statistics where data was given but no number; a few batches do."""


@flat
def convert(
    network: SourceFlags,
    plan: PlanFlags,
    data: DataFlags,
    out: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Converted folder to write.")
    ],
    source: Source = None,
    calibrate: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            rich_help_panel=DATA,
            show_default=f"{DEFAULT_CALIBRATION} with data, else 0",
            help="Training images to re-estimate batch-norm statistics on.",
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="Decides weights that are not loaded."),
    ] = SourceOptions.seed,
    overwrite: Overwrite = False,
) -> None:
    """Turn a float network into a binary one, ready to fine-tune.

    Writes a folder that timm users know (config.json, model.safetensors). With --data-dir,
    batch-norm statistics are estimated again on training images, since binary layers change them.
    See irbin inspect for what the plan options do.
    """
    n_images = _calibration(calibrate, data)
    spec = network.named(source)
    from irbin import verbs

    with counting("calibrating") as report:
        converted = verbs.convert(
            spec,
            out,
            source_options=replace(network.options(source), seed=seed),
            data=data.options() if n_images else None,
            calibrate=n_images,
            overwrite=overwrite,
            report=report,
            **given(plan),
        )
    if converted.plan is not None:
        print_totals(results(), converted.plan)
        if converted.plan.options.shortcut != "none":
            notes_by_layer: dict[str, str] = vars(converted.module)["irbin_shortcuts"]
            say(results(), shortcut_line(notes_by_layer))
    say(results(), f"wrote {out}", style="bold")
    if converted.source.num_classes == 0:
        hint = "train it with a head in a loop of your own, see docs/your-own-network.md"
        say(notes(), f"next: {hint}", style="dim")
        return
    data_dir = data.data_dir or "DATA"
    command = shlex.join(["irbin", "finetune", str(out), "--data-dir", str(data_dir), "-o", "RUN"])
    say(notes(), f"next: {command}", style="dim")


def _calibration(calibrate: int | None, data: DataFlags) -> int:
    """Images to calibrate on.

    Raises:
        UsageError: images were asked for, but no data set was named.
    """
    if calibrate is None:
        return DEFAULT_CALIBRATION if data.is_given else 0
    if calibrate and not data.is_given:
        raise UsageError("`--calibrate` needs images: give `--data-dir` or `--dataset`")
    return calibrate
