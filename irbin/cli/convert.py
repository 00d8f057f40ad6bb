"""`irbin convert`: a float network in, a binary one that can be fine-tuned out."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from irbin.cli.console import check_json_target, json_alone, notes, results, say, write_json
from irbin.cli.flags import flat, given, words
from irbin.cli.inspect import print_totals
from irbin.cli.live import stages
from irbin.cli.options import DataFlags, Json, Overwrite, Source
from irbin.cli.plan_options import PlanFlags
from irbin.cli.recipe_options import complete_recipe
from irbin.cli.source_options import SourceFlags
from irbin.errors import UsageError
from irbin.records.knob import DATA
from irbin.records.options import CALIBRATION_IMAGES, DEFAULT_SEED
from irbin.report.images import images_line
from irbin.report.jsonout import conversion_json
from irbin.report.plan import shortcut_line


@flat
def convert(
    network: SourceFlags,
    plan: PlanFlags,
    data: DataFlags,
    out: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Converted folder to write.")
    ],
    source: Source = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            "-c",
            metavar="NAME|FILE",
            autocompletion=complete_recipe,
            help="Recipe that sets defaults for all this, and may name the SOURCE.",
        ),
    ] = None,
    calibrate: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            rich_help_panel=DATA,
            show_default=f"{CALIBRATION_IMAGES} with data, else 0",
            help="Training images to re-estimate batch-norm statistics on.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            show_default=f"the recipe's, else {DEFAULT_SEED}",
            help="Decides weights that are not loaded.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    json_to: Json = None,
) -> None:
    """Turn a float network into a binary one, ready to fine-tune.

    Writes a folder that timm users know (config.json, model.safetensors). With --data-dir,
    batch-norm statistics are estimated again on training images, since binary layers change them.
    See irbin inspect for what the plan options do.
    """
    check_json_target(json_to, network.checkpoint, source)
    n_images = _calibration(calibrate, data)
    spec = network.named_beside(source, recipe)
    from irbin import verbs

    with json_alone(json_to), stages(patient=True) as stage:
        converted = verbs.convert(
            spec,
            out,
            recipe=recipe,
            source_options=replace(network.options(source), seed=seed),
            data=data.options() if n_images else None,
            calibrate=n_images,
            overwrite=overwrite,
            stage=stage,
            **given(plan),
        )
    screen = results(json_to)
    say(screen, images_line(converted.source))
    if converted.plan is not None:
        write_json(conversion_json(str(out), converted.source, converted.plan), json_to)
        print_totals(screen, converted.plan)
        notes_by_layer: dict[str, str] = vars(converted.module).get("irbin_shortcuts", {})
        if notes_by_layer:
            say(screen, shortcut_line(notes_by_layer))
    say(screen, f"wrote {out}", style="bold")
    if converted.source.num_classes == 0:
        hint = "train it with a head in a loop of your own, see docs/your-own-network.md"
        say(notes(), f"next: {hint}", style="dim")
        return
    images = words(data) if data.is_given else ["--data-dir", "DATA"]
    typed = ["irbin", "finetune", str(out), *images, "-o", "RUN"]
    command = shlex.join([*typed, *(["--recipe", recipe] if recipe else [])])
    say(notes(), f"next: {command}", style="dim")


def _calibration(calibrate: int | None, data: DataFlags) -> int:
    """Images to calibrate on.

    Raises:
        UsageError: images were asked for, but no data set was named.
    """
    if calibrate is None:
        return CALIBRATION_IMAGES if data.is_given else 0
    if calibrate and not data.is_given:
        raise UsageError("`--calibrate` needs images: give `--data-dir` or `--dataset`")
    return calibrate
