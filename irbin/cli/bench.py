"""`irbin bench`: a packed network timed beside its float one, node by node, and against others.

With `--train` it is a training step of the binary network beside one of the float network.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from irbin.cli.console import check_json_target, json_alone, notes, results, say, write_json
from irbin.cli.device import pick_device
from irbin.cli.flags import flat, given
from irbin.cli.live import stages
from irbin.cli.options import Device, Input, Json, Report, Source, check_page
from irbin.cli.plan_options import PlanFlags
from irbin.cli.recipe_options import RecipeName
from irbin.cli.record_flags import FROM_RECORD, Flags, elsewhere, flag_of
from irbin.cli.source_options import SourceFlags
from irbin.errors import UsageError
from irbin.recipes.recipe import Recipe
from irbin.records.bench import BenchRecord, TimingOptions, TrainBenchRecord
from irbin.records.options import DataOptions, FloatMath
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
    torch_lines,
)
from irbin.report.training_bench import (
    ratio_line,
    train_bench_heading,
    train_bench_json,
    train_bench_table,
)

TRAINING = "Training (with --train)"
BATCH_SIZE, TRAIN_BATCH_SIZE = 1, 128


class TimingFlags(Flags, record=TimingOptions):
    """How often, and on how many threads."""


class TrainFlags(
    Flags,
    record=Recipe,
    defaults="hidden",
    only=("amp", "channels_last", "compile"),
    panel=TRAINING,
    shown="the recipe's",
):
    """How a step is trained; None where nothing was given."""

    recipe: Annotated[str | None, elsewhere(RecipeName, TRAINING, "default")] = None
    amp: FROM_RECORD
    channels_last: FROM_RECORD
    compile: FROM_RECORD
    device: Annotated[str | None, elsewhere(Device, TRAINING, "auto")] = None
    data_dir: Annotated[
        Path | None, elsewhere(flag_of(DataOptions, "data_dir"), TRAINING, "random images")
    ] = None

    overrides = Flags.values
    """The knobs that were turned, by field of `Recipe`."""


@flat
def bench(
    network: SourceFlags,
    plan: PlanFlags,
    training: TrainFlags,
    timing: TimingFlags,
    source: Source = None,
    train: Annotated[
        bool,
        typer.Option("--train", help="Time a training step, binary beside float, part by part."),
    ] = False,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size",
            "-b",
            min=1,
            metavar="N",
            help="Images a call.",
            show_default=f"{BATCH_SIZE}, {TRAIN_BATCH_SIZE} with --train",
        ),
    ] = None,
    against: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="Also time the float network on these: torch-compile, onnxruntime, openvino; "
            "comma-separated (pip install 'irbin\\[peers]').",
        ),
    ] = "",
    float_math: Annotated[
        FloatMath,
        typer.Option(help="Of the packed network's float convolutions; bfloat16 changes results."),
    ] = "float32",
    input_type: Input = None,
    page: Report = None,
    json_to: Json = None,
) -> None:
    """Time a packed network beside its float one, and show where the time goes.

    SOURCE is a packed folder, or a network that is converted in memory first (plan options apply):
    speed does not depend on the weights. Prints median, p10 and p90 of interleaved runs, peak
    memory, a table of the packed network's nodes with their rates, and the distance to the limit.
    IRBIN_KERNELS forces an implementation.

    With --train, SOURCE is a network that is converted in memory, or a converted folder, and a
    training step of it is timed beside one of its float network: same recipe, same images (random
    without --data-dir), amp, memory format and compiling as finetune decides for a long run.
    """
    check_json_target(json_to, network.checkpoint, source)
    spec = network.named(source)
    peers = tuple(name.strip() for name in against.split(",") if name.strip())
    _check_together(train, training, peers, float_math)
    if train and page is not None:
        raise UsageError("`--report` is of packed networks; it does not go with `--train`")
    check_page(page)
    if train and input_type is not None:
        raise UsageError("`--input-type` is of packed networks; it does not go with `--train`")
    common = {"source_options": network.options(source), **vars(timing), **given(plan)}
    if train:
        _bench_training(spec, training, batch_size or TRAIN_BATCH_SIZE, common, json_to)
        return
    from irbin.bench.inference import benchmark

    with json_alone(json_to), stages() as report:
        record = benchmark(
            spec,
            batch_size=batch_size or BATCH_SIZE,
            against=peers,
            float_math=float_math,
            input_type=input_type,
            report=report,
            **common,
        )
    _show(record, json_to)
    if page is not None:
        from irbin.html.bench import bench_page
        from irbin.html.page import write_page

        write_page(page, bench_page(record))
        say(notes(), f"wrote {page}", style="dim")


def _check_together(
    train: bool, training: TrainFlags, peers: tuple[str, ...], float_math: FloatMath
) -> None:
    """Refuses what says nothing about what is timed.

    Raises:
        UsageError: an option of training without `--train`, or of packed networks with it.
    """
    if not train:
        odd = [name for name, value in vars(training).items() if value is not None]
        if odd:
            raise UsageError(f"`--{odd[0].replace('_', '-')}` is of training steps; add `--train`")
        return
    if peers:
        raise UsageError("`--against` times networks that run; it does not go with `--train`")
    if float_math != "float32":
        raise UsageError("`--float-math` is of packed networks; with `--train` it is `--amp`")


def _bench_training(
    spec: str, training: TrainFlags, batch_size: int, common: dict[str, Any], json_to: str | None
) -> None:
    device, data = pick_device(training.device or "auto"), None
    if training.data_dir is not None:
        data = DataOptions(str(training.data_dir), batch_size=batch_size)
    from irbin.bench.training import benchmark_training

    with json_alone(json_to), stages() as report:
        record = benchmark_training(
            spec,
            data=data,
            batch_size=batch_size,
            recipe=training.recipe,
            overrides=training.overrides(),
            device=device,
            report=report,
            **common,
        )
    _show_training(record, json_to)


def _show_training(record: TrainBenchRecord, json_to: str | None) -> None:
    screen = results(json_to)
    say(screen, train_bench_heading(record), style="bold")
    screen.print(train_bench_table(record))
    for line in (ratio_line(record), record.settings, record.images):
        say(screen, line)
    say(notes(), machine_line(record.machine), style="dim")
    write_json(train_bench_json(record), json_to)


def _show(record: BenchRecord, json_to: str | None) -> None:
    screen = results(json_to)
    say(screen, bench_heading(record), style="bold")
    screen.print(entries_table(record, screen.width))
    screen.print()
    screen.print(nodes_table(record, screen.width))
    say(screen, limit_line(record))
    for line in (*torch_lines(record), *estimate_lines(record), *overhead_lines(record)):
        say(screen, line)
    for line in (*slower_lines(record), *record.notes):
        say(screen, line, style="yellow")
    say(notes(), machine_line(record.machine), style="dim")
    write_json(bench_json(record), json_to)
