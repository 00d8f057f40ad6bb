"""`irbin demo`: the whole journey on embedded real data, in minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from irbin.cli.console import check_json_target, json_alone, notes, results, say, write_json
from irbin.cli.flags import flat
from irbin.cli.inspect import print_plan
from irbin.cli.live import TrainingDisplay
from irbin.cli.options import Json, Overwrite
from irbin.records.json import to_json
from irbin.records.results import DemoRecord
from irbin.report.evaluation import accuracy_table, agreement_lines, margin_line, speed_line
from irbin.report.export import export_line
from irbin.report.units import duration

JOURNEY = (
    "irbin inspect CHECKPOINT --model NAME",
    "irbin convert CHECKPOINT --model NAME --data-dir DATA -o converted",
    "irbin finetune converted --data-dir DATA -o run",
    "irbin export run -o packed",
    "irbin eval CHECKPOINT run packed --model NAME --data-dir DATA",
)
"""The same journey on the user's own checkpoint and data."""


@flat
def demo(
    out: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for everything it writes.")
    ] = Path("irbin-demo"),
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1, show_default="as the demo's recipe says", help="Epochs of fine-tuning."
        ),
    ] = None,
    overwrite: Overwrite = False,
    json_to: Json = None,
) -> None:
    """Watch a pretrained network become a 1-bit one on embedded real data.

    Plans, converts, fine-tunes with EDE, evaluates, exports to packed bits, and evaluates again
    from the packed file: a subset of Fashion-MNIST, a small residual network, at most three
    minutes on two cores.
    """
    check_json_target(json_to)
    from irbin.demo.run import run_demo

    with json_alone(json_to), TrainingDisplay() as display:
        record = run_demo(
            out,
            epochs=epochs,
            overwrite=overwrite,
            on_stage=lambda line: say(display.console, line, style="bold"),
            on_plan=lambda plan: print_plan(display.console, "the plan", plan),
            report=display.step,
            on_epoch=display.epoch,
        )
    _print(record, json_to)
    write_json(to_json(record), json_to)


def _print(record: DemoRecord, json_to: str | None) -> None:
    screen = results(json_to)
    screen.print(accuracy_table(record.evaluations, screen.width))
    say(screen, margin_line(record.evaluations))
    say(screen, speed_line(record.evaluations))
    names = {evaluation.kind: evaluation.name for evaluation in record.evaluations}
    lines = agreement_lines(
        names.get("binary", "binary"), names.get("packed", "packed"), record.agreement
    )
    for line in lines:
        say(screen, line)
    screen.print(export_line(record.export), soft_wrap=True)
    say(screen, f"everything is in {record.path}; it took {duration(record.seconds)}")
    say(notes(), "the same on your own checkpoint and data:", style="bold")
    for command in JOURNEY:
        say(notes(), f"  {command}")
