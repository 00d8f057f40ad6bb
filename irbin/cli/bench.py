"""`irbin bench`: a packed network timed beside its float one, node by node, and against others."""

from __future__ import annotations

from typing import Annotated

import typer

from irbin.cli.console import check_json_target, json_alone, notes, results, say, write_json
from irbin.cli.flags import flat, given
from irbin.cli.live import stages
from irbin.cli.options import Json, PlanFlags, Source, SourceFlags
from irbin.records import FloatMath
from irbin.report.bench import (
    bench_heading,
    bench_json,
    entries_table,
    estimate_lines,
    limit_line,
    machine_line,
    nodes_table,
    overhead_lines,
    slower_lines,
)


@flat
def bench(
    network: SourceFlags,
    plan: PlanFlags,
    source: Source = None,
    batch_size: Annotated[
        int, typer.Option("--batch-size", "-b", min=1, metavar="N", help="Images a call.")
    ] = 1,
    threads: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", show_default="torch's", help="Threads of every runtime."),
    ] = None,
    runs: Annotated[
        int, typer.Option(min=2, metavar="N", help="Counted runs of each, interleaved.")
    ] = 30,
    against: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="Also time the float network on these: torch-compile, onnxruntime, openvino; "
            "comma-separated (pip install 'irbin[peers]').",
        ),
    ] = "",
    float_math: Annotated[
        FloatMath,
        typer.Option(help="Of the packed network's float convolutions; bfloat16 changes results."),
    ] = "float32",
    memory: Annotated[
        bool,
        typer.Option("--memory/--no-memory", help="Measure a packed folder's memory and loading."),
    ] = True,
    json_to: Json = None,
) -> None:
    """Time a packed network beside its float one, and show where the time goes.

    SOURCE is a packed folder, or a network that is converted in memory first (plan options apply):
    speed does not depend on the weights. Prints median, p10 and p90 of interleaved runs, peak
    memory, a table of the packed network's nodes with their rates, and the distance to the limit.
    IRBIN_KERNELS forces an implementation.
    """
    check_json_target(json_to)
    spec = network.named(source)
    peers = tuple(name.strip() for name in against.split(",") if name.strip())
    from irbin.benchmarks import benchmark

    with json_alone(json_to), stages() as report:
        record = benchmark(
            spec,
            source_options=network.options(source),
            batch_size=batch_size,
            n_threads=threads,
            n_runs=runs,
            against=peers,
            memory=memory,
            float_math=float_math,
            report=report,
            **given(plan),
        )
    screen = results(json_to)
    say(screen, bench_heading(record), style="bold")
    screen.print(entries_table(record))
    screen.print()
    screen.print(nodes_table(record))
    say(screen, limit_line(record))
    for line in (*estimate_lines(record), *overhead_lines(record)):
        say(screen, line)
    for line in (*slower_lines(record), *record.notes):
        say(screen, line, style="yellow")
    say(notes(), machine_line(record.machine), style="dim")
    write_json(bench_json(record), json_to)
