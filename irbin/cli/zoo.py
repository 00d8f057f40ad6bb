"""`irbin zoo`: the networks that come with irbin, and how each was made."""

from __future__ import annotations

from typing import Annotated

import typer

from irbin.cli.console import check_json_target, notes, results, say, write_json
from irbin.cli.flags import flat
from irbin.cli.options import Json
from irbin.records.json import to_json
from irbin.records.zoo import ZooRecord
from irbin.report.zoo import curve_line, record_table, zoo_table
from irbin.zoo.entries import PREFIX, all_records, entry_names, read_record


def complete_entry(incomplete: str) -> list[str]:
    """Names of entries, for the shell's completion."""
    return [name for name in entry_names() if name.startswith(incomplete)]


@flat
def zoo(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="Entry to tell of, with or without zoo:.",
            autocompletion=complete_entry,
        ),
    ] = None,
    json_to: Json = None,
) -> None:
    """List the networks that come with irbin, or tell how one was made.

    zoo:NAME is a SOURCE: a packed one of eval, inspect and bench, and irbin.load("zoo:NAME") runs
    it; a float one of every command that takes a float network, finetune's --teacher too. With
    NAME: the accuracy of the stored files and on how many images, the commands that repeat it, its
    machine, hours, seed and versions, and every knob of its recipe in the JSON.
    """
    check_json_target(json_to)
    screen = results(json_to)
    if name is None:
        records = all_records()
        screen.print(zoo_table(records, screen.width))
        say(notes(), f"next: irbin zoo NAME; irbin eval {PREFIX}NAME --data-dir DATA", style="dim")
        write_json([to_json(record) for record in records], json_to)
        return
    record = read_record(name)
    say(screen, f"{PREFIX}{record.name}", style="bold")
    screen.print(record_table(record))
    for run in record.runs:
        screen.print()
        say(screen, curve_line(run))
        for command in run.commands:
            say(screen, f"  {command}")
    say(notes(), f"next: {_what_next(record)}", style="dim")
    write_json(to_json(record), json_to)


def _what_next(record: ZooRecord) -> str:
    spec = f"{PREFIX}{record.name}"
    if record.bits is None:
        return f"irbin convert {spec} -o converted; irbin eval {spec} --data-dir DATA"
    teacher = record.teacher or ""
    before = f"irbin zoo {teacher.removeprefix(PREFIX)}; " if teacher.startswith(PREFIX) else ""
    return f"{before}irbin eval {spec} --data-dir DATA"
