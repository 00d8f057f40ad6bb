"""`irbin export`: a trained binary network in, the packed folder, C or ONNX out."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Literal

import typer

from irbin.cli.console import check_json_target, json_alone, notes, results, say, write_json
from irbin.cli.flags import flat
from irbin.cli.live import stages
from irbin.cli.options import FloatDtypeFlag, Json, Overwrite, Source
from irbin.cli.record_flags import Flags
from irbin.cli.source_options import SourceFlags
from irbin.errors import UsageError
from irbin.records.in_c import COptions
from irbin.records.json import to_json
from irbin.records.options import FloatDtype, SourceOptions
from irbin.report.export import c_line, c_table, export_line, export_table, onnx_line
from irbin.report.jsonout import export_json


class CFlags(Flags, record=COptions, defaults="shown"):
    """How it is written as C."""


@flat
def export(
    network: SourceFlags,
    as_c: CFlags,
    out: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="PATH", help="Folder to write; an .onnx file for ONNX."
        ),
    ],
    source: Source = None,
    to: Annotated[
        Literal["packed", "c", "onnx"],
        typer.Option(
            "--to", help="A packed folder, which `irbin.load` runs, C sources, or an ONNX file."
        ),
    ] = "packed",
    float_dtype: FloatDtypeFlag = "float32",
    overwrite: Overwrite = False,
    json_to: Json = None,
) -> None:
    """Write a trained binary network as packed bits and a program, as C, or as ONNX.

    SOURCE is a converted folder or a run folder. Prints the bytes that the plan predicted and the
    bytes that were written, and fails if they differ. Running the packed folder needs neither timm
    nor the architecture's code. --img-size or --input-size packs it for another image size than it
    was converted at, where the network runs at that one.

    With --to c SOURCE may also be a packed folder or zoo:NAME. The folder then holds C11 without
    dependencies, whose answers are those of `irbin.load` bit for bit, with a test that shows it.
    With --to onnx SOURCE may be the same, and PATH is a file of ONNX's standard operators, weights
    at one bit, with class names and preprocessing; it needs `irbin[onnx]`.
    """
    check_json_target(json_to, network.checkpoint, source)
    spec = network.named(source)
    from irbin import verbs

    if to == "c":
        with json_alone(json_to), stages(patient=True) as stage:
            written = verbs.export_c(
                spec,
                out,
                c_options=COptions(**as_c.values()),
                source_options=network.options(source),
                float_dtype=float_dtype,
                overwrite=overwrite,
                stage=stage,
            )
        screen = results(json_to)
        screen.print(c_table(written))
        screen.print(c_line(written), soft_wrap=True)
        write_json(to_json(written), json_to)
        folder, build = shlex.quote(written.path), shlex.quote(f"{written.path}/build")
        say(notes(), f"next: cmake -S {folder} -B {build} && cmake --build {build}", style="dim")
        return
    if as_c.values():
        given = ", ".join(f"`{name}`" for name in as_c.values())
        raise UsageError(f"{given}: for C alone; give `to='c'` or leave them out")
    if to == "onnx":
        _onnx(spec, out, network.options(source), float_dtype, overwrite, json_to)
        return
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


def _onnx(
    spec: str,
    out: Path,
    options: SourceOptions,
    float_dtype: FloatDtype,
    overwrite: bool,
    json_to: str | None,
) -> None:
    from irbin import verbs

    with json_alone(json_to), stages(patient=True) as stage:
        written = verbs.export_onnx(
            spec,
            out,
            source_options=options,
            float_dtype=float_dtype,
            overwrite=overwrite,
            stage=stage,
        )
    results(json_to).print(onnx_line(written), soft_wrap=True)
    write_json(to_json(written), json_to)
    command = shlex.join(["irbin", "eval", spec, written.path, "--data-dir", "DATA"])
    say(notes(), f"next: {command}", style="dim")
