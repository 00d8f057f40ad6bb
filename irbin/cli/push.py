"""`irbin push`: a packed or network folder to the Hugging Face hub."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from irbin.cli.console import check_json_target, json_alone, notes, results, say, write_json
from irbin.cli.flags import flat
from irbin.cli.options import Json
from irbin.records.json import to_json
from irbin.report.export import pushed_table


@flat
def push(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="A packed folder, or a network folder.")
    ],
    repository: Annotated[
        str, typer.Argument(metavar="OWNER/NAME", help="Repository, made where there is none.")
    ],
    private: Annotated[bool, typer.Option("--private", help="Of a new repository.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be sent, and ask nobody.")
    ] = False,
    json_to: Json = None,
) -> None:
    """Send a packed or network folder to the Hugging Face hub.

    Only the files that irbin reads and the model card go there, in one commit; hf-hub:OWNER/NAME
    is then a SOURCE. The token is that of the hub's own client: hf auth login, or HF_TOKEN.
    """
    check_json_target(json_to)
    from irbin.pushing import push as send

    with json_alone(json_to):
        record = send(folder, repository, private=private, dry_run=dry_run)
    screen = results(json_to)
    screen.print(pushed_table(record))
    write_json({**to_json(record), "sent": not dry_run}, json_to)
    if dry_run:
        say(screen, "nothing was sent")
        return
    say(screen, f"sent to {repository}", style="bold")
    command = shlex.join(["irbin", "inspect", f"hf-hub:{repository}"])
    say(notes(), f"next: {command}", style="dim")
