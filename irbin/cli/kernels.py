"""`irbin kernels`: the implementations there are, which one computes, and how fast each is."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from irbin.cli.console import check_json_target, notes, results, say, write_json
from irbin.cli.flags import flat
from irbin.cli.live import counting
from irbin.cli.options import Json
from irbin.records.bench import KernelRate
from irbin.records.json import JsonValue, to_json
from irbin.report.bench import rates_table
from irbin.report.fitting import plain_table


@flat
def kernels(
    rates: Annotated[
        bool,
        typer.Option("--rates", help="Time 3×3 binary convolutions against their limit."),
    ] = False,
    json_to: Json = None,
) -> None:
    """List the implementations of the binary kernels.

    For each: what it needs, whether this processor runs it, and which one is active.
    IRBIN_KERNELS=name forces one. With --rates, ResNet-18's four binary convolutions are timed on
    one thread with every supported implementation, beside a loop of the same instructions on
    registers alone.
    """
    check_json_target(json_to)
    from irbin.kernels import native

    implementations = native.implementations()
    table = plain_table()
    for head in ("name", "", "needs", "supported", "active"):
        table.add_column(head, overflow="fold")
    for one in implementations:
        marks = ("yes" if one.supported else "no", "active" if one.active else "")
        table.add_row(one.name, one.description, ", ".join(one.needs), *marks)
    screen = results(json_to)
    screen.print(table)
    if native.notice():
        say(notes(), f"note: {native.notice()}", style="yellow")
    else:
        say(screen, f"compiled by {native.compiler()}")
    value: dict[str, JsonValue] = {
        "implementations": [asdict(one) for one in implementations],
        "compiler": native.compiler() or None,
    }
    if rates:
        names = [
            one.name for one in implementations if one.supported and one.name != native.REFERENCE
        ]
        measured = _measure(names)
        screen.print(rates_table(measured))
        value["rates"] = [to_json(rate) for rate in measured]
    write_json(value, json_to)


def _measure(names: list[str]) -> list[KernelRate]:
    from irbin.kernels.rates import OUTPUTS, SHAPES, measure

    wanted = [(name, shape, output) for name in names for output in OUTPUTS for shape in SHAPES]
    measured = []
    with counting("timing kernels") as report:
        for done, one in enumerate(wanted, 1):
            measured.append(measure(*one))
            report(done, len(wanted))
    return measured
