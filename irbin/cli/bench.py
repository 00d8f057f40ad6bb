"""`irbin bench`: a packed network timed beside its float one, node by node, and against others.

With `--train` it is a training step of the binary network beside one of the float network.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from irbin.cli.console import check_json_target, json_alone, notes, results, say, write_json
from irbin.cli.device import pick_device
from irbin.cli.flags import flat, given
from irbin.cli.live import stages
from irbin.cli.options import Json, Source
from irbin.cli.plan_options import PlanFlags
from irbin.cli.recipe_options import complete_recipe
from irbin.cli.source_options import SourceFlags
from irbin.errors import UsageError
from irbin.records.bench import BenchRecord, TrainBenchRecord
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
)
from irbin.report.training_bench import (
    ratio_line,
    train_bench_heading,
    train_bench_json,
    train_bench_table,
)

TRAINING = "Training (with --train)"
BATCH_SIZE, TRAIN_BATCH_SIZE = 1, 128


def _option(text: str, shown: str, *names: str, metavar: str | None = None, **more: Any) -> Any:
    return typer.Option(
        *names, metavar=metavar, rich_help_panel=TRAINING, show_default=shown, help=text, **more
    )


@dataclass(frozen=True)
class TrainFlags:
    """How a step is trained; None where nothing was given."""

    recipe: Annotated[
        str | None,
        _option("Recipe or YAML file of both networks.", "default", "--recipe", "--config", "-c",
                metavar="NAME|FILE", autocompletion=complete_recipe),
    ] = None  # fmt: skip
    amp: Annotated[
        Literal["auto", "bfloat16", "float16", "off"] | None,
        _option(
            "Mixed precision: auto, bfloat16, float16 or off.",
            "the recipe's",
            "--amp",
            "--amp-dtype",
            metavar="TYPE",
        ),
    ] = None
    channels_last: Annotated[
        bool | None,
        _option("Channels-last images and weights.", "the recipe's",
                "--channels-last/--no-channels-last"),
    ] = None  # fmt: skip
    compile: Annotated[
        bool | None,
        _option("torch.compile.", "as in a long run", "--compile/--no-compile"),
    ] = None
    device: Annotated[
        str | None,
        _option("Where to train: auto, cpu, cuda, cuda:1 …", "auto", metavar="NAME"),
    ] = None
    data_dir: Annotated[
        Path | None,
        _option("Folder of real images, with a train and a val split.", "random images",
                metavar="DIR"),
    ] = None  # fmt: skip

    def overrides(self) -> dict[str, Any]:
        """The knobs that were turned, by field of `Recipe`."""
        return given(self, without=("recipe", "device", "data_dir"))


@flat
def bench(
    network: SourceFlags,
    plan: PlanFlags,
    training: TrainFlags,
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
            "comma-separated (pip install 'irbin\\[peers]').",
        ),
    ] = "",
    float_math: Annotated[
        FloatMath,
        typer.Option(help="Of the packed network's float convolutions; bfloat16 changes results."),
    ] = "float32",
    memory: Annotated[
        bool,
        typer.Option(
            "--memory/--no-memory",
            help="Measure a packed folder's memory and loading; "
            "with --train, what a forward pass keeps for the backward one.",
        ),
    ] = True,
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
    common: dict[str, Any] = {
        "source_options": network.options(source), "n_threads": threads, "n_runs": runs,
        "memory": memory, **given(plan),
    }  # fmt: skip
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
            report=report,
            **common,
        )
    _show(record, json_to)


def _check_together(
    train: bool, training: TrainFlags, peers: tuple[str, ...], float_math: FloatMath
) -> None:
    """Refuses what says nothing about what is timed.

    Raises:
        UsageError: an option of training without `--train`, or of packed networks with it.
    """
    if not train:
        odd = [f.name for f in fields(training) if getattr(training, f.name) is not None]
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
    device = pick_device(training.device or "auto")
    folder = training.data_dir
    from irbin.bench.training import benchmark_training

    with json_alone(json_to), stages() as report:
        record = benchmark_training(
            spec,
            data=None if folder is None else DataOptions(str(folder), batch_size=batch_size),
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
    for line in (*estimate_lines(record), *overhead_lines(record)):
        say(screen, line)
    for line in (*slower_lines(record), *record.notes):
        say(screen, line, style="yellow")
    say(notes(), machine_line(record.machine), style="dim")
    write_json(bench_json(record), json_to)
