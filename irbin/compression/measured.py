"""All three forms evaluated, packed held against trained, and the time of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from irbin.artifact.read import read_artifact
from irbin.artifact.schema import CARD_FILE, FILES
from irbin.bench.inference import PACKED as OURS
from irbin.bench.inference import benchmark
from irbin.card import card
from irbin.compression.folder import EVALUATION_FILE, PACKED, REPORT_FILE, RUN
from irbin.compression.request import Work
from irbin.evaluation.accuracy import timm_result
from irbin.exporting import card_facts
from irbin.files import write_file
from irbin.records.compression import Compression, Timing
from irbin.records.options import SourceOptions
from irbin.records.prediction import TOP
from irbin.records.results import Evaluation
from irbin.report.compression import speed_words
from irbin.report.jsonout import dumps, evaluation_json
from irbin.report.units import bare_percent
from irbin.reporting import write_evaluation_report
from irbin.sources.folder import network_folder, recorded
from irbin.verbs import compare, evaluate

FORMS = ("float", "binary", "packed")
TORCH = "torch fp32"
"""How names of the float network's entries begin."""
N_RUNS = 20
"""Counted runs of one image, which show a ratio; `irbin bench` measures for real."""


def has_measured(work: Work) -> bool:
    """Whether everything was."""
    record = work.record
    return (
        all(form in record.evaluations for form in FORMS)
        and record.agreement is not None
        and record.timing is not None
        and all((work.out / name).is_file() for name in (EVALUATION_FILE, REPORT_FILE))
    )


def measure(work: Work) -> str:
    """Measures what was not yet; each result is kept as it comes.

    The page shows images, which are not kept: where it is missing, they are all answered anew.
    """
    networks = {
        "float": work.float_source,
        "binary": (work.out / RUN, None),
        "packed": (work.out / PACKED, None),
    }
    with_answers = []
    for form, (source, options) in networks.items():
        measured = _evaluated(work, form, source, options)
        with_answers.append(measured)
        kept = {**work.record.evaluations, form: replace(measured, answers=None)}
        work.note(evaluations=kept)
    if work.record.agreement is None:
        with work.watcher.counting("comparing packed with trained") as report:
            work.note(
                agreement=compare(work.out / RUN, work.out / PACKED, data=work.data, report=report)
            )
    if work.record.timing is None:
        work.note(timing=_timed(work))
    _write_card(work)
    _write_page(work, with_answers)
    write_file(work.out / EVALUATION_FILE, dumps(results_json(work.record)).encode())
    return _outcome(work.record)


def _write_page(work: Work, evaluations: Sequence[Evaluation]) -> None:
    """The three forms side by side as a page of HTML."""
    assert work.record.agreement is not None, "it is measured before"
    _, binary, packed = evaluations
    agreements = {packed.name: (binary.name, work.record.agreement)}
    with work.watcher.stages() as stage:
        stage("writing the report", 0, 0)
        write_evaluation_report(work.out / REPORT_FILE, evaluations, agreements, work.data)


def results_json(record: Compression) -> list[dict[str, object]]:
    """What `irbin eval FLOAT RUN PACKED` writes as JSON."""
    named = record.evaluations.get("binary")
    agreement = None
    if record.agreement is not None and named is not None:
        agreement = (named.name, record.agreement)
    return [
        evaluation_json(timm_result(one), agreement if form == "packed" else None)
        for form, one in record.evaluations.items()
    ]


def _evaluated(
    work: Work, form: str, source: str | Path, options: SourceOptions | None
) -> Evaluation:
    with work.watcher.counting(f"evaluating the {form} network") as report:
        return evaluate(
            source,
            data=work.data,
            source_options=options,
            device=work.device,
            predictions=TOP,
            report=report,
        )


def _timed(work: Work) -> Timing:
    """One image at a time, packed and in torch, interleaved."""
    with work.watcher.stages() as stage:
        record = benchmark(work.out / PACKED, n_runs=N_RUNS, memory=False, report=stage)
    times = {entry.name: entry.latency.p10_ms for entry in record.entries}
    in_torch = [ms for name, ms in times.items() if name.startswith(TORCH)]
    return Timing(
        times[OURS],
        min(in_torch, default=None),
        record.n_threads,
        record.machine.processor,
        record.machine.torch,
        record.machine.kernels,
        record.input_type,
        record.machine.load > record.machine.n_cores + 1,
    )


def _write_card(work: Work) -> None:
    """The packed folder's model card again, with what was measured."""
    manifest, run = read_artifact(work.out / PACKED).manifest, work.out / RUN
    facts = replace(
        card_facts(run, recorded(network_folder(run))),
        total_bytes=sum((work.out / PACKED / name).stat().st_size for name in FILES),
        evaluations=tuple(work.record.evaluations.values()),
        timing=work.record.timing,
    )
    write_file(work.out / PACKED / CARD_FILE, card(manifest, facts).encode())


def _outcome(record: Compression) -> str:
    told = [
        f"{form} {bare_percent(one.top1)}±{one.top1_margin:.2f} %"
        for form, one in record.evaluations.items()
    ]
    told.append("" if record.timing is None else speed_words(record.timing))
    return ", ".join(filter(None, told))
