"""`irbin export`: a trained binary network in, the packed folder out."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from irbin.cli.console import check_json_target, json_alone, notes, results, say, write_json
from irbin.cli.flags import flat
from irbin.cli.live import stages
from irbin.cli.options import FloatDtypeFlag, Json, Overwrite, Source
from irbin.cli.source_options import SourceFlags
from irbin.report.export import export_line, export_table
from irbin.report.jsonout import export_json


@flat
def export(
    network: SourceFlags,
    out: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Packed folder to write.")
    ],
    source: Source = None,
    float_dtype: FloatDtypeFlag = "float32",
    overwrite: Overwrite = False,
    json_to: Json = None,
) -> None:
    """Write a trained binary network as packed bits and a program.

    SOURCE is a converted folder or a run folder. Prints the bytes that the plan predicted and the
    bytes that were written, and fails if they differ. Running the packed folder needs neither timm
    nor the architecture's code. --img-size or --input-size packs it for another image size than it
    was converted at, where the network runs at that one.
    """
    check_json_target(json_to, network.checkpoint, source)
    spec = network.named(source)
    from irbin import verbs

    with json_alone(json_to), stages(patient=True) as stage:
        record = verbs.export(
            spec,
            out,
            source_options=network.options(source),
            float_dtype=float_dtype,
            overwrite=overwrite,
            stage=stage,
        )
    screen = results(json_to)
    screen.print(export_table(record))
    screen.print(export_line(record), soft_wrap=True)
    write_json(export_json(record), json_to)
    command = shlex.join(["irbin", "eval", spec, record.path, "--data-dir", "DATA"])
    say(notes(), f"next: {command}", style="dim")
