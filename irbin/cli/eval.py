"""`irbin eval`: accuracy on every image, of one network or of several side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from irbin.cli.console import (
    check_json_target,
    check_target,
    first_speaks,
    json_alone,
    notes,
    results,
    say,
    write_json,
)
from irbin.cli.device import pick_device
from irbin.cli.flags import flat
from irbin.cli.live import counting
from irbin.cli.options import (
    Amp,
    ChannelsLast,
    DataFlags,
    Device,
    Input,
    Json,
    ReportFlags,
    Sources,
)
from irbin.cli.rows import format_of, written
from irbin.cli.source_options import SourceFlags
from irbin.errors import UsageError
from irbin.records.json import JsonValue
from irbin.records.knob import IMAGES, knobs_of
from irbin.records.options import DataOptions, SourceOptions
from irbin.records.prediction import TOP
from irbin.records.results import Agreement, Evaluation
from irbin.report.evaluation import (
    accuracy_table,
    agreement_lines,
    calibration_line,
    class_table,
    confusion_lines,
    disagreement_table,
    feeding_lines,
    figures_table,
    flips_table,
    input_lines,
    kernel_lines,
    margin_line,
    speed_line,
    unseen_line,
)
from irbin.report.jsonout import evaluation_json
from irbin.report.labelled import labelled_columns, labelled_rows

Pairs = dict[str, tuple[str, Agreement]]
"""Packed network's name → (trained network's name, comparison)."""


@flat
def evaluate(
    network: SourceFlags,
    data: DataFlags,
    page: ReportFlags,
    sources: Sources = None,
    device: Device = "auto",
    amp: Amp = None,
    channels_last: ChannelsLast = None,
    input_type: Input = None,
    predictions: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Write every image with its class and each network's best five, as .csv, .json "
            "or .parquet.",
        ),
    ] = None,
    json_to: Json = None,
) -> None:
    """Measure top-1, top-5, loss, precision and recall by class, and calibration on every image.

    Several networks are shown side by side: float, binary, packed. Where a packed folder stands
    beside a converted or run folder, their answers are compared image by image, and every
    difference is explained. The JSON has the result keys of timm's validate.py; several networks
    give a list. A report is one file of HTML, with a CSV of every image beside it.
    """
    check_json_target(json_to, network.checkpoint, *(sources or []))
    kind = None if predictions is None else format_of(predictions)
    check_target("--predictions", predictions, network.checkpoint, *(sources or []))
    _check_page(page.report)
    options = data.options()
    specs = _specs(sources or [], network)
    from irbin import verbs
    from irbin.processes import joined

    chosen = pick_device(device)
    evaluations = []
    with first_speaks(), joined(chosen) as group:  # one for all: a second meeting would hang
        for source, spec in specs:
            with json_alone(json_to), counting(f"evaluating {spec}") as report:
                evaluations.append(
                    verbs.evaluate(
                        spec,
                        data=options,
                        source_options=_options(network, source, len(specs)),
                        device=chosen,
                        channels_last=bool(channels_last),
                        amp=amp,
                        input_type=input_type,
                        predictions=TOP if kind or page.report else 0,
                        report=report,
                    )
                )
    if not group.is_first:
        return
    if kind is not None and predictions is not None:
        with written(kind, predictions, labelled_columns(evaluations)) as rows:
            for row in labelled_rows(evaluations):
                rows.add(row)
    with json_alone(json_to):
        agreements = _compare(specs, network, evaluations, options)
        if page.report is not None:
            _write_page(page.report, evaluations, agreements, options, not page.no_images)
    _print(evaluations, agreements, json_to)
    for line in _recorded(evaluations):
        say(results(json_to), line)
    if json_to is not None:
        write_json(_json(evaluations, agreements), json_to)


def _check_page(report: Path | None) -> None:
    """Refuses a page that could not be written, before any long work.

    Raises:
        UsageError: see `reporting.check_evaluation_report`; or several processes share the images.
    """
    if report is None:
        return
    from irbin.launch import launched
    from irbin.reporting import check_evaluation_report

    if launched().size > 1:
        raise UsageError("`--report` is written by one process; run it without torchrun")
    check_evaluation_report(report, "--report")


def _write_page(
    report: Path,
    evaluations: Sequence[Evaluation],
    agreements: Pairs,
    data: DataOptions,
    with_images: bool,
) -> None:
    from irbin.reporting import images_file, write_evaluation_report

    write_evaluation_report(report, evaluations, agreements, data, with_images=with_images)
    say(notes(), f"wrote {report} and {images_file(report)}", style="dim")


def _specs(sources: Sequence[str], network: SourceFlags) -> list[tuple[str | None, str]]:
    """(SOURCE as typed, spec to open) of every network.

    Raises:
        UsageError: nothing was named, or one checkpoint for several networks.
    """
    if len(sources) > 1 and network.checkpoint is not None:
        raise UsageError(
            f"`--checkpoint` goes with one SOURCE, got {len(sources)}; "
            "name checkpoint files as SOURCEs instead"
        )
    if not sources:
        return [(None, network.named(None))]
    return [(source, network.named(source)) for source in sources]


def _options(network: SourceFlags, source: str | None, n_networks: int) -> SourceOptions:
    """How to read one of several networks; a folder says itself all but how images are fed."""
    options = network.options(source)
    if n_networks == 1 or source is None:
        return options
    from irbin.hub.repository import located
    from irbin.sources.folder import folder_kind

    if folder_kind(located(source).expanduser()) in (None, "timm"):
        return options
    images = [one.name for one in knobs_of(SourceOptions) if one.knob.panel == IMAGES]
    return SourceOptions(**{name: getattr(options, name) for name in images})


def _compare(
    specs: Sequence[tuple[str | None, str]],
    network: SourceFlags,
    evaluations: Sequence[Evaluation],
    data: DataOptions,
) -> Pairs:
    """Every packed network against the trained binary one named last before it, else the first."""
    from irbin import verbs

    binaries = [i for i, e in enumerate(evaluations) if e.kind == "binary"]
    pairs: Pairs = {}
    for i, evaluation in enumerate(evaluations):
        if evaluation.kind != "packed" or not binaries:
            continue
        partner = max((b for b in binaries if b < i), default=binaries[0])
        (source, trained), packed = specs[partner], specs[i][1]
        with counting(f"comparing {packed} with {trained}") as report:
            agreement = verbs.compare(
                trained,
                packed,
                data=data,
                source_options=_options(network, source, len(specs)),
                report=report,
            )
        pairs[evaluation.name] = (evaluations[partner].name, agreement)
    return pairs


def _recorded(evaluations: Sequence[Evaluation]) -> list[str]:
    """Of every network of the zoo, what its record says beside what was measured now."""
    from irbin.report.zoo import recorded_line
    from irbin.zoo.entries import is_entry, read_record

    return [recorded_line(read_record(e.name), e) for e in evaluations if is_entry(e.name)]


def _print(evaluations: Sequence[Evaluation], agreements: Pairs, json_to: str | None) -> None:
    screen = results(json_to)
    alone = evaluations[0] if len(evaluations) == 1 else None
    classes = figures_table(alone, screen.width) if alone is not None else None
    classes = classes or class_table(evaluations, screen.width)
    if classes is not None:
        screen.print(classes)
        screen.print()
    for packed, (binary, agreement) in agreements.items():
        for line in agreement_lines(binary, packed, agreement):
            say(screen, line)
        for table in (
            flips_table(agreement, screen.width),
            disagreement_table(agreement, screen.width),
        ):
            if table is not None:
                screen.print(table)
        screen.print()
    screen.print(accuracy_table(evaluations, screen.width))
    notes = (
        margin_line(evaluations),
        *filter(None, (calibration_line(evaluations),)),
        *confusion_lines(evaluations),
        *filter(None, (unseen_line(evaluations),)),
        speed_line(evaluations),
        *feeding_lines(evaluations),
        *kernel_lines(evaluations),
        *input_lines(evaluations, compared=bool(agreements)),
    )
    for line in notes:
        say(screen, line)


def _json(evaluations: Sequence[Evaluation], agreements: Pairs) -> JsonValue:
    from irbin.evaluation.accuracy import timm_result

    values = [evaluation_json(timm_result(e), agreements.get(e.name)) for e in evaluations]
    return values[0] if len(values) == 1 else values
