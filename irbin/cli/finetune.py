"""`irbin finetune`: train a converted network with EDE, or a float one as it is."""

from __future__ import annotations

import json
import shlex
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from irbin.cli.console import (
    Stopped,
    check_json_target,
    is_first_process,
    json_alone,
    notes,
    results,
    say,
    write_json,
)
from irbin.cli.device import pick_device
from irbin.cli.flags import flat, words
from irbin.cli.live import TrainingDisplay
from irbin.cli.options import DataFlags, Device, Json, Source
from irbin.cli.recipe_options import RecipeFlags, RecipeName
from irbin.cli.source_options import SourceFlags
from irbin.records.json import to_json
from irbin.records.training import RunRecord
from irbin.report.training import run_table


@flat
def finetune(
    network: SourceFlags,
    data: DataFlags,
    knobs: RecipeFlags,
    out: Annotated[
        Path, typer.Option("--output", "-o", metavar="RUN", help="Run folder to write.")
    ],
    source: Source = None,
    recipe: RecipeName = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            "--teacher",
            "--kd-model-name",
            metavar="SOURCE",
            show_default="the network that was converted",
            help="Float network to distill from.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in RUN exactly where it stopped.")
    ] = False,
    device: Device = "auto",
    log: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND", help="Send figures also to tensorboard or wandb; repeatable."),
    ] = None,
    json_to: Json = None,
) -> None:
    """Train a converted network, sharpening EDE's gradient step by step.

    A float source is converted first if the recipe says how, with the images' statistics as
    irbin convert does it; else it is trained as the float network it is: that is how a teacher is
    made. Without a SOURCE the recipe's own network is trained; irbin recipes lists them.
    RUN gets args.yaml, summary.csv, and the folders last and best. Ctrl-C saves last; the same
    line with --resume goes on from there. What no option says is as the recipe says.
    """
    check_json_target(json_to, network.checkpoint, source)
    spec = network.named_beside(source, recipe)
    options = data.options()
    from irbin.runs.logs import open_log, told_in_turn

    first = is_first_process()
    logs = [open_log(kind, out) for kind in dict.fromkeys(log or ())] if first else []
    from irbin import verbs

    display = TrainingDisplay(knobs.log_interval or TrainingDisplay.LOG_INTERVAL)
    with json_alone(json_to), ExitStack() as stack:
        stack.enter_context(display)  # leaves last: a log may have something to say when it closes
        for one in logs:
            stack.enter_context(one)
        record = verbs.finetune(
            spec,
            out,
            data=options,
            source_options=network.options(source),
            recipe=recipe,
            overrides=knobs.overrides(),
            teacher=teacher,
            resume=resume,
            device=pick_device(device),
            report=told_in_turn(display.step, *(one.step for one in logs)),
            on_epoch=told_in_turn(display.epoch, *(one.epoch for one in logs)),
            say=display.line,
            stage=display.stage,
        )
    if first:
        results(json_to).print(run_table(record))
        write_json(to_json(record), json_to)
        if record.interrupted:
            _say_how_to_resume(out)
        else:
            _say_what_next(record, data)
    if record.interrupted:
        raise Stopped


def _say_how_to_resume(out: Path) -> None:
    typed = [word for word in sys.argv[1:] if word != "--resume"]
    screen = notes()
    say(screen, f"stopped by Ctrl-C; {out / 'last'} holds where. Go on with:", style="bold")
    say(screen, shlex.join(["irbin", *typed, "--resume"]))


def _say_what_next(record: RunRecord, data: DataFlags) -> None:
    export = shlex.join(["irbin", "export", record.path, "-o", "PACKED"])
    command = shlex.join(["irbin", "eval", record.path, *words(data)])
    if _is_float(Path(record.path)):  # nothing in it is binary yet
        export = shlex.join(["irbin", "convert", record.path, *words(data), "-o", "CONVERTED"])
    say(notes(), f"next: {command}; {export}", style="dim")


def _is_float(run: Path) -> bool:
    """Whether a run trained a float network."""
    try:
        config = json.loads((run / "last" / "config.json").read_text(encoding="utf-8"))
        return bool(config["irbin"]["plan"] is None)
    except (OSError, ValueError, KeyError, TypeError):
        return False
