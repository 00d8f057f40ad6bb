"""`compress`: plan, convert, fine-tune, export and evaluate, composed; each step once.

A step is skipped where its result is whole on the disk, so a call that was stopped is gone on with
by the same call; training goes on within an epoch, as `finetune` does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from irbin.analysis.analyze import analyze
from irbin.compression.folder import CONVERTED, FLOAT, PACKED, RUN
from irbin.compression.measured import has_measured, measure
from irbin.compression.request import Wish, Work, begin
from irbin.compression.trained import run_is_over, train_float, tune
from irbin.compression.watcher import NOBODY, Watcher
from irbin.errors import PlanError
from irbin.recipes.file import RecipeFile
from irbin.records.compression import Compression, CompressOptions, CompressStep, StepName
from irbin.records.json import JsonValue
from irbin.records.knob import taken
from irbin.records.options import CALIBRATION_IMAGES, DataOptions, SourceOptions
from irbin.report.units import byte_size
from irbin.sources.folder import folder_kind
from irbin.verbs import convert, export
from irbin.writers import sole_writer


def compress(
    source: str | Path | None,
    out: str | Path,
    *,
    data: DataOptions,
    source_options: SourceOptions | None = None,
    recipe: str | RecipeFile | None = None,
    overrides: Mapping[str, JsonValue] | None = None,
    resume: bool = False,
    device: str = "cpu",
    watcher: Watcher = NOBODY,
    **options: Any,
) -> Compression:
    """A float network to a packed one: plans, converts, fine-tunes, exports, evaluates all forms.

    Writes `out`/converted, `out`/run, `out`/packed (see `convert`, `finetune`, `export`),
    `evaluation.json` and `report.html` as `irbin eval` does, and `compress.json`, which says what
    was asked for and how far it is. A KeyboardInterrupt leaves all that is done, and `resume` goes
    on there.

    Args:
        source: a float network's name, checkpoint or folder; None takes the recipe's.
        out: folder to write; must not exist unless `resume`.
        data: training and validation images, in whatever size: they are fed as the network says,
            (batch, channels, height, width).
        source_options: how to read the source: `num_classes`, `mean`, `img_size` …
        recipe: name or YAML file, of the fine-tuning and perhaps the conversion; see `finetune`.
        overrides: fields of `Recipe` that win over it: `{"epochs": 20}`.
        resume: go on with `out`, with the same arguments; begins where nothing stands there.
        device: torch's name of it, for training and for evaluating what is not packed.
        watcher: told how it goes.
        options: fields of `PlanOptions` (`bits`, `keep`, `shortcut`, …) and of `CompressOptions`:
            `budget`, for which `analyze` proposes what stays float ("size=4MB": bytes of the packed
            folder's files; "latency=5": estimated milliseconds of one image on one thread;
            "drop=2": points of top-1 on a sample, before fine-tuning), and `train_float`, whether
            the float network is trained first, which None does where its weights or its classifier
            are random, unless the recipe names the network.

    Returns:
        What was measured: accuracy in per cent of the validation split, sizes in bytes,
        milliseconds of one image.

    Raises:
        UsageError: `out` exists, lies in the source or was begun with other arguments (the message
            names them); an argument makes no sense; a budget is out of reach; several processes; or
            another one is writing `out`.
        PlanError: see `planning.plan`; or no network keeps the budget.
        SourceError, TraceError, ConvertError, DataError, TrainingError, LowerError, ArtifactError:
            see the verbs.
    """
    further, plan = taken(CompressOptions, options)
    wish = Wish(recipe, overrides, further, plan)
    with sole_writer(Path(out)):
        work = begin(
            source, out, data, source_options, wish, resume=resume, device=device, watcher=watcher
        )
        steps = _steps(work)
        for i, step in enumerate(steps):
            following = steps[i + 1].name if i + 1 < len(steps) else None
            _take(work, step, CompressStep(step.name, i + 1, len(steps), following))
    return work.record


@dataclass(frozen=True)
class _Step:
    name: StepName
    is_done: Callable[[Work], bool]
    """Whether its result is whole."""
    do: Callable[[Work], str]
    """Does it; returns in a line what came of it."""


def _steps(work: Work) -> list[_Step]:
    """All of them in order, also those that are done."""
    first = [_Step("train", lambda w: run_is_over(w, FLOAT), train_float)]
    second = [_Step("analyze", lambda w: w.record.proposed_keep is not None, _analyze)]
    return [
        *(first if work.record.trains_float else []),
        *(second if work.budget is not None else []),
        _Step("convert", lambda w: folder_kind(w.out / CONVERTED) == "network", _convert),
        _Step("finetune", lambda w: run_is_over(w, RUN), tune),
        _Step("export", _is_packed, _export),
        _Step("evaluate", has_measured, measure),
    ]


def _take(work: Work, step: _Step, told: CompressStep) -> None:
    """Does a step, or finds it done; tells of both, and remembers what came of it."""
    stood_there = step.is_done(work)
    if not stood_there:
        work.watcher.on_step(told)
        begun = time.monotonic()
        try:
            outcome = step.do(work)
        finally:
            work.note(seconds=work.record.seconds + time.monotonic() - begun)
        work.note(outcomes={**work.record.outcomes, step.name: outcome})
    outcome = work.record.outcomes.get(step.name, "")
    work.watcher.on_step(replace(told, outcome=outcome, stood_there=stood_there))


def _analyze(work: Work) -> str:
    """Which layers stay float for the budget."""
    assert work.budget is not None, "the step is taken for one"
    source, options = work.float_source
    limit = {f"max_{work.budget.kind}": work.budget.limit}
    if work.budget.kind == "bytes":
        limit = {"max_bytes": int(work.budget.limit) - work.record.beside_bytes}
    with work.watcher.counting("networks measured") as report:
        analysis = analyze(
            source,
            data=work.data,
            source_options=options,
            device=work.device,
            report=report,
            **limit,
            **vars(work.plan),
        )
    if analysis.interrupted:
        raise KeyboardInterrupt
    if analysis.proposal is None:
        raise PlanError(analysis.unmet.replace("`max_drop=`", "`budget=`"))
    work.note(proposed_keep=analysis.proposal.keep)
    point = analysis.proposal.point
    kept = ", ".join(analysis.proposal.keep) or "nothing"
    stays = "stay" if len(analysis.proposal.keep) > 1 else "stays"
    return (
        f"{kept} {stays} float; {byte_size(point.packed_bytes)} of weights, estimated "
        f"{1e3 * point.seconds:.2f} ms an image"
    )


def _convert(work: Work) -> str:
    source, how = work.float_source
    keep = (*work.plan.keep, *(work.record.proposed_keep or ()))
    with work.watcher.stages() as stage:
        network = convert(
            source,
            work.out / CONVERTED,
            source_options=how,
            data=work.data,
            calibrate=CALIBRATION_IMAGES,
            stage=stage,
            **{**vars(work.plan), "keep": keep},
        )
    assert network.plan is not None, "it is converted"
    n_bytes = network.plan.packed_bytes()
    return (
        f"{len(network.plan.binary_names)} of {len(network.plan.decisions)} layers are binary: "
        f"{byte_size(network.plan.float_bytes)} of weights will be {byte_size(n_bytes)}"
    )


def _is_packed(work: Work) -> bool:
    return work.record.export is not None and folder_kind(work.out / PACKED) == "packed"


def _export(work: Work) -> str:
    with work.watcher.stages() as stage:
        record = export(work.out / RUN, work.out / PACKED, stage=stage, overwrite=True)
    work.note(export=record)
    weights = byte_size(record.float_bytes)
    return f"{byte_size(record.total_bytes)} of files, of {weights} of weights"
