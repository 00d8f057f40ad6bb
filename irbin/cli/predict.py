"""`irbin predict`: what a network says of pictures."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

import typer

from irbin.cli.console import STDOUT, check_target, json_alone, notes, results, say
from irbin.cli.device import pick_device
from irbin.cli.flags import flat
from irbin.cli.live import counting
from irbin.cli.options import ANSWERING_HELP, Amp, Device, Input, Json
from irbin.cli.record_flags import Flags
from irbin.cli.rows import format_of, written
from irbin.cli.source_options import SourceFlags
from irbin.errors import DataError, UsageError
from irbin.records.prediction import Prediction, PredictOptions
from irbin.report.prediction import (
    damaged_line,
    prediction_columns,
    prediction_json,
    prediction_line,
    prediction_row,
)
from irbin.report.units import count


class PredictFlags(Flags, record=PredictOptions):
    """How pictures are read and answered."""


@flat
def predict(
    network: SourceFlags,
    options: PredictFlags,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help=ANSWERING_HELP)],
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE...",
            help="Pictures, folders of pictures, patterns in quotes ('photos/**/*.jpg'), or - for "
            "a picture on standard input.",
        ),
    ],
    form: Annotated[
        Literal["table", "csv", "json", "parquet"] | None,
        typer.Option(
            "--format",
            show_default="table; with -o what the file's ending says",
            help="Of what is written.",
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option("-o", "--output", metavar="FILE", help="Write .csv, .json or .parquet."),
    ] = None,
    json_to: Json = None,
    device: Device = "auto",
    amp: Amp = None,
    input_type: Input = None,
) -> None:
    """Classify pictures: the most probable classes of each, in order, as soon as they are known.

    Images are fed as the network's folder says, as in eval. A damaged picture is told and passed
    over; then the exit code is 1.
    """
    if json_to is not None:
        form, out = _as_json(form, out, json_to)
    check_target("-o" if json_to is None else "--json", out, source, *images)
    kind = _format(form, out)
    from irbin.prediction.named import pictures
    from irbin.prediction.predict import predictions
    from irbin.prediction.predictor import Predictor

    named = pictures(images)
    spec = network.named(source)
    to_stdout = out in (None, STDOUT) and kind != "table"
    with json_alone(STDOUT if to_stdout else None):
        predictor = Predictor(spec, network.options(source), _device(device), amp, input_type)
    start = time.perf_counter()
    settings = PredictOptions(**options.values())
    told = predictions(predictor, named, settings)
    with _writer(kind, out, min(settings.topk, predictor.record.num_classes)) as write:
        n_images, damaged = _run(told, write, named, shows=out in (None, STDOUT))
    seconds = time.perf_counter() - start
    if n_images > 1:
        alone = count(n_images / max(predictor.seconds, 1e-9))
        say(
            notes(),
            f"{n_images:,} images, {count(n_images / seconds)} a second with reading and decoding; "
            f"the network alone {alone}",
        )
    if damaged:
        raise DataError(damaged_line(damaged, n_images))


def _device(name: str) -> str:
    """`auto` is left to networks that are torch's."""
    return name if name == "auto" else pick_device(name)


def _as_json(form: str | None, out: str | None, json_to: str) -> tuple[Literal["json"], str]:
    """`--json FILE` is `--format json -o FILE`."""
    if form is not None or out is not None:
        raise UsageError("`--json` says the format and the file; leave `--format` and `-o` out")
    return "json", json_to


def _format(form: str | None, out: str | None) -> Any:
    if out in (None, STDOUT):
        if form == "parquet":
            raise UsageError("Parquet is no text; name a file with `-o`")
        return form or "table"
    if form == "table":
        raise UsageError(
            "`--format table` is for the screen; with `-o` choose csv, json or parquet"
        )
    return format_of(out, form)


@contextmanager
def _writer(kind: Any, out: str | None, topk: int) -> Iterator[Callable[[Prediction], None]]:
    if kind == "table":
        screen = results()
        yield lambda prediction: say(screen, prediction_line(prediction))
        return
    row_of = prediction_json if kind == "json" else prediction_row
    with written(kind, out or STDOUT, prediction_columns(topk)) as rows:
        yield lambda prediction: rows.add(row_of(prediction))


def _run(
    told: Iterable[Prediction],
    write: Callable[[Prediction], None],
    named: Any,
    *,
    shows: bool,
) -> tuple[int, list[Prediction]]:
    """Images in all, and those without an answer; with a bar where nothing else is shown."""
    damaged: list[Prediction] = []
    n_images = 0
    with _bar(shows) as report:
        for prediction in told:
            write(prediction)
            n_images += 1
            if prediction.error:
                damaged.append(prediction)
            report(n_images, len(named))
    return n_images, damaged


@contextmanager
def _bar(shows: bool) -> Iterator[Callable[[int, int], None]]:
    if shows:
        yield lambda *_: None
        return
    with counting("predicting") as report:
        yield report
