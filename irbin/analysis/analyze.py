"""`analyze`: which layers of a float network bear binarization, and what a budget buys."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from irbin.analysis.budget import check_reachable, evenly, front, longest, rank, spend
from irbin.analysis.choices import Choices, choices
from irbin.analysis.measure import Batches, LossMeter, Measured, draw
from irbin.data import check_classes, open_dataset
from irbin.errors import UsageError
from irbin.processes import open_device
from irbin.recipes.file import plan_options
from irbin.records.analysis import (
    Analysis,
    AnalysisOptions,
    Budget,
    BudgetKind,
    LayerAnalysis,
    PathPoint,
    Proposal,
    Ranking,
)
from irbin.records.knob import taken
from irbin.records.options import DataOptions, SourceOptions, check_given
from irbin.records.progress import OnProgress
from irbin.rewriting.calibrate import has_statistics
from irbin.rewriting.network import Network
from irbin.rewriting.rewrite import rewrite
from irbin.sources.feeding import warn_of_guess
from irbin.sources.opened import Source, check_classifier, name_of, open_network
from irbin.tracing.trace import trace


def analyze(
    source: Source,
    *,
    data: DataOptions,
    source_options: SourceOptions | None = None,
    device: str = "cpu",
    report: OnProgress | None = None,
    **options: Any,
) -> Analysis:
    """Binarizes one layer at a time, ranks by loss for what is saved, and proposes a plan.

    Nothing is trained: each network is the float one with some layers binary and batch norm
    re-estimated. Ctrl-C ends the measuring, and what there is by then is returned.

    Args:
        source: a float network; left as it is.
        data: validation images to measure on, training images for batch norm.
        source_options: how to read the source.
        device: torch's name of it.
        report: told of networks measured and to measure.
        options: fields of `AnalysisOptions` (`by`, `samples`, `calibrate`, `points`, and one of
            `max_bytes`, `max_latency` and `max_drop`) and of `PlanOptions`; what those binarize is
            analyzed.

    Raises:
        UsageError: the network is converted already or has no classifier; several budgets, or one
            out of reach.
        PlanError, ConvertError: see `planning.plan` and `rewriting.rewrite`.
        DataError: no images, or another number of classes than the network has.
    """
    check_given(source_options, data, needs_data=True)
    asked, plan = taken(AnalysisOptions, options)
    budget = _budget(asked)
    open_device(device)
    network = open_network(source, source_options)
    if network.plan is not None:
        raise UsageError("expected a float network, got one that is converted already")
    check_classifier(network.source, "analyze")
    graph = trace(network.module, network.source.preprocessing.input_size)
    space = choices(graph, plan_options(plan), asked.by)
    if budget is not None:
        check_reachable(budget, space)
    network = replace(network, module=copy.deepcopy(network.module).to(device))
    rewrite(network, space.full)  # everything binary runs as planned, and so does any part of it
    sample, calibration = _images(network, data, asked, device)
    findings = _Findings()
    meter = LossMeter(network, space, sample, calibration)
    interrupted = False
    try:
        _measure(meter, findings, budget, asked.points, report)
    except KeyboardInterrupt:
        if not findings.layers:
            raise
        interrupted = True
    return Analysis(
        source=name_of(source),
        by=asked.by,
        ranked_by=_ranked_by(budget),
        options=space.full.options,
        n_images=sum(len(labels) for _, labels in sample),
        n_calibration=sum(map(len, calibration)),
        layers=rank(findings.layers, _ranked_by(budget)),
        path=tuple(findings.path),
        proposal=findings.proposal,
        unmet=findings.unmet,
        notes=() if network.source.trained else (UNTRAINED,),
        interrupted=interrupted,
    )


UNTRAINED = "the network has no trained weights: what is measured here says nothing about it"


@dataclass
class _Findings:
    """What has been measured so far."""

    layers: list[LayerAnalysis] = field(default_factory=list)
    path: list[PathPoint] = field(default_factory=list)
    proposal: Proposal | None = None
    unmet: str = ""


def _budget(asked: AnalysisOptions) -> Budget | None:
    limits: dict[BudgetKind, float | None] = {
        "bytes": asked.max_bytes,
        "latency": asked.max_latency,
        "drop": asked.max_drop,
    }
    given = [Budget(kind, limit) for kind, limit in limits.items() if limit is not None]
    if len(given) > 1:
        names = ", ".join(f"`max_{budget.kind}=`" for budget in given)
        raise UsageError(f"expected one budget, got {names}; give one of them")
    return given[0] if given else None


def _ranked_by(budget: Budget | None) -> Ranking:
    return "time" if budget is not None and budget.kind == "latency" else "bytes"


def _images(
    network: Network, data: DataOptions, asked: AnalysisOptions, device: str
) -> tuple[Batches, Sequence[Tensor]]:
    """The sample, and calibration images where anything is to be calibrated."""
    record = network.source
    dataset = open_dataset(data, data.val_split, record.preprocessing, training=False)
    check_classes(record, dataset, by_map=bool(data.class_map))
    warn_of_guess(record)
    sample = draw(dataset, data, asked.samples, n_classes=record.num_classes, device=device)
    if not asked.calibrate or not has_statistics(network.module):
        return sample, ()
    dataset = open_dataset(data, data.train_split, record.preprocessing, training=False)
    return sample, [images for images, _ in draw(dataset, data, asked.calibrate, device=device)]


def _measure(
    meter: LossMeter,
    findings: _Findings,
    budget: Budget | None,
    points: int,
    report: OnProgress | None,
) -> None:
    """Fills `findings`, in place: every group alone, the way along the ranking, the proposal."""
    space = meter.choices
    n_steps = 1 + len(space.groups) + points + (budget is not None)
    step = 0

    def measure(names: Collection[str]) -> Measured:
        nonlocal step
        measured = meter(names)
        step += 1
        if report is not None:
            report(min(step, n_steps), n_steps)
        return measured

    base = measure(())
    findings.path.append(_point(space, (), base))
    for name in space.groups:
        findings.layers.append(_layer_analysis(space, name, measure([name]), base))
    ranking = rank(findings.layers, _ranked_by(budget))
    order = [layer.name for layer in ranking]
    lengths = evenly([max(layer.bytes_saved, 0) for layer in ranking], points)
    for n in lengths:
        findings.path.append(_point(space, order[:n], measure(order[:n])))
    if budget is not None:
        names = _within(budget, space, order, lengths, measure)
        if names:
            findings.proposal = _proposal(budget, space, names, measure(names))
        else:
            least = base.top1 - measure(order[:1]).top1
            findings.unmet = (
                f"`max_drop=`: expected at least {least:.2f} points, which `{order[0]}` alone "
                f"costs on the sample before fine-tuning, got {budget.limit:g}"
            )
    _mark_front(findings)


def _within(
    budget: Budget,
    space: Choices,
    order: Sequence[str],
    lengths: Sequence[int],
    measure: Callable[[Collection[str]], Measured],
) -> Sequence[str]:
    """The groups to binarize; none where not even the first keeps the budget."""
    if budget.kind != "drop":
        return spend(budget, space, order)
    lowest = measure(()).top1 - budget.limit
    n = longest(len(order), lambda k: measure(order[:k]).top1 >= lowest, known=lengths)
    return order[:n]


def _layer_analysis(space: Choices, name: str, measured: Measured, base: Measured) -> LayerAnalysis:
    increase, error = measured.increase(base)
    return LayerAnalysis(
        name,
        space.groups[name],
        measured.loss,
        measured.top1,
        increase,
        error,
        space.bytes_saved(name),
        space.seconds_saved(name),
    )


def _point(space: Choices, names: Collection[str], measured: Measured) -> PathPoint:
    return PathPoint(
        len(space.layers(names)),
        space.packed_bytes(names),
        space.seconds(names),
        measured.loss,
        measured.top1,
    )


def _proposal(
    budget: Budget, space: Choices, names: Collection[str], measured: Measured
) -> Proposal:
    options = space.options(names)
    return Proposal(
        budget,
        options,
        options.keep[len(space.full.options.keep) :],
        space.layers(names),
        _point(space, names, measured),
    )


def _mark_front(findings: _Findings) -> None:
    """Marks, in place, the measured networks that no other beats in size and accuracy."""
    points = [*findings.path, *([findings.proposal.point] if findings.proposal else [])]
    best = front([(float(point.packed_bytes), point.top1) for point in points])
    marked = [replace(point, on_front=i in best) for i, point in enumerate(points)]
    if findings.proposal is not None:
        findings.proposal = replace(findings.proposal, point=marked.pop())
    findings.path = marked
