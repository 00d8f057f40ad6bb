"""`irbin compress`: a float network in, a packed one out, in one command that can be stopped."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from irbin.cli.flags import flat, given
from irbin.cli.live import TrainingDisplay, counting, stages
from irbin.cli.options import DataFlags, Device, Json, Source
from irbin.cli.plan_options import PlanFlags
from irbin.cli.recipe_options import complete_recipe
from irbin.cli.record_flags import Flags
from irbin.cli.source_options import SourceFlags
from irbin.recipes.recipe import Recipe
from irbin.records.compression import Compression, CompressOptions, CompressStep
from irbin.records.json import JsonValue, to_json
from irbin.report.compression import budget_lines, step_line, timing_line
from irbin.report.evaluation import accuracy_table, agreement_lines, input_lines, margin_line
from irbin.report.jsonout import export_json
from irbin.report.units import duration

if TYPE_CHECKING:
    from irbin.runs.listener import Told


class FewKnobs(
    Flags,
    record=Recipe,
    defaults="hidden",
    only=("epochs", "lr", "distill", "seed", "amp", "compile", "log_interval"),
):
    """The knobs that are turned most; a recipe's file has all of them."""


class FurtherFlags(Flags, record=CompressOptions):
    """What is done beside converting and fine-tuning."""


@flat
def compress(
    network: SourceFlags,
    plan: PlanFlags,
    data: DataFlags,
    knobs: FewKnobs,
    further: FurtherFlags,
    out: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="DIR", help="Folder for everything it writes."),
    ],
    source: Source = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            "-c",
            metavar="NAME|FILE",
            autocompletion=complete_recipe,
            show_default="default",
            help="Recipe of the fine-tuning, and of what else it says; may name the SOURCE.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on in DIR where it stopped, or begin there.")
    ] = False,
    device: Device = "auto",
    json_to: Json = None,
) -> None:
    """Turn a float network into a packed one: convert, fine-tune, export, evaluate, in one go.

    DIR gets the folders converted, run and packed, evaluation.json and report.html as irbin eval
    writes them, and compress.json, which says how far it is. Where SOURCE comes without weights, or
    with another number of classes, the float network is trained first, into DIR/float. Ctrl-C keeps
    what is done; the same line with --resume goes on from there, within an epoch too. What no
    option says is as the recipe says; the steps one by one are irbin convert, finetune, export and
    eval.
    """
    check_json_target(json_to, network.checkpoint, source)
    spec = network.named_beside(source, recipe)
    images = data.options()
    from irbin.compression.compress import compress as make
    from irbin.compression.watcher import Watcher

    display = _Display(knobs.log_interval or TrainingDisplay.LOG_INTERVAL)
    watcher = Watcher(display.step, display.training, lambda: stages(patient=True), counting)
    with json_alone(json_to):
        try:
            record = make(
                spec,
                out,
                data=images,
                source_options=network.options(source),
                recipe=recipe,
                overrides=knobs.values(),
                resume=resume,
                device=pick_device(device),
                watcher=watcher,
                **further.values(),
                **given(plan),
            )
        except KeyboardInterrupt:
            _say_how_to_resume(out)
            raise Stopped from None
    _print(record, json_to)
    if json_to is not None:
        write_json(_json(record), json_to)
    command = shlex.join(["irbin", "predict", f"{out / 'packed'}", "IMAGE"])
    say(notes(), f"next: {command}", style="dim")


class _Display:
    """Shows steps, a line as each begins and ends, and between them what moves.

    Args:
        log_interval: see `TrainingDisplay`.
    """

    def __init__(self, log_interval: int) -> None:
        self.log_interval = log_interval

    def step(self, step: CompressStep) -> None:
        """A step that begins or has ended."""
        say(notes(), step_line(step), style="bold" if step.outcome is None else "dim")

    @contextmanager
    def training(self) -> Iterator[Told]:
        """Within, a training is shown as `irbin finetune` does."""
        with TrainingDisplay(self.log_interval) as display:
            yield {
                "report": display.step,
                "on_epoch": display.epoch,
                "say": display.line,
                "stage": display.stage,
            }


def _say_how_to_resume(out: Path) -> None:
    from irbin.compression.folder import STATE_FILE

    if not (out / STATE_FILE).is_file():
        line = "stopped by Ctrl-C before anything was done; the same line begins again"
        say(notes(), line, style="bold")
        return
    typed = [word for word in sys.argv[1:] if word != "--resume"]
    screen = notes()
    say(screen, f"stopped by Ctrl-C; {out} keeps what is done. Go on with:", style="bold")
    say(screen, shlex.join(["irbin", *typed, "--resume"]))


def _print(record: Compression, json_to: str | None) -> None:
    screen = results(json_to)
    evaluations = tuple(record.evaluations.values())
    screen.print(accuracy_table(evaluations, screen.width))
    lines = [margin_line(evaluations), *input_lines(evaluations, compared=True)]
    if record.agreement is not None:
        binary, packed = (record.evaluations[form].name for form in ("binary", "packed"))
        lines += agreement_lines(binary, packed, record.agreement)
    if record.timing is not None:
        lines.append(timing_line(record.timing))
    lines += budget_lines(record)
    for line in lines:
        say(screen, line)
    took = duration(record.seconds)
    say(screen, f"everything is in {record.path}, report.html shows it; it took {took}")


def _json(record: Compression) -> JsonValue:
    from irbin.compression.measured import results_json

    value = to_json(record)
    value["evaluations"] = results_json(record)
    del value["agreement"]  # stands with the packed network's
    value["export"] = None if record.export is None else export_json(record.export)
    return value
