"""The training loop, top to bottom: `finetune` prepares it, then epochs, steps, and `Run.step`.

EDE moves with the global step (the authors move it once an epoch and never reach t_max). Before
every batch everything random is seeded by (seed, batch, process), so a run that goes on after an
interruption computes what one without it would have.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

from torch import Tensor, nn

from irbin.allocation import memory_kept
from irbin.data import class_names
from irbin.data.fingerprint import fingerprint
from irbin.data.workers import told_between_batches
from irbin.errors import DataError, LostWorkerError, TrainingError
from irbin.evaluation.accuracy import Subject, evaluate
from irbin.files import removed_on_error
from irbin.interrupt import Stop, held_interrupt
from irbin.messages import counted
from irbin.processes import ALONE, Group
from irbin.recipes.recipe import Recipe
from irbin.records.json import JsonValue
from irbin.records.options import DataOptions
from irbin.records.results import Evaluation
from irbin.records.training import RunRecord
from irbin.rewriting.network import Network
from irbin.runs.folder import begin_run, check_same_images, same_run
from irbin.runs.listener import NOBODY, Listener
from irbin.training.keeping import Keeper
from irbin.training.meter import Meter, epoch_record, few_steps, not_finite
from irbin.training.norms import calibrate, settle_norms
from irbin.training.precision import decide, tried_convolutions
from irbin.training.prepare import after_training, cache_of, make_run, open_loaders
from irbin.training.resume import Progress, check_together, load_last, save_last
from irbin.training.run import Computed, Run
from irbin.training.waits import Waits
from irbin.watching.nonfinite import first_nonfinite
from irbin.watching.seen import FEW_STEPS

_Record = TypeVar("_Record")
_log = logging.getLogger("irbin")


def finetune(
    network: Network,
    data: DataOptions,
    recipe: Recipe,
    out: Path,
    *,
    teacher: nn.Module | None = None,
    resume: bool = False,
    group: Group = ALONE,
    listener: Listener = NOBODY,
    inputs: Mapping[str, JsonValue] | None = None,
) -> RunRecord:
    """Trains a network, in place, and writes a run folder; docs/training.md lists its files.

    The first Ctrl-C ends training after the step under way and saves `last`; so does a
    KeyboardInterrupt that the listener raises.

    Args:
        network: float, or converted: then trained with EDE.
        data: training and validation split.
        recipe: every knob.
        out: run folder; new, or that of the run to go on with.
        teacher: maps the same images to logits of the same shape; used where the recipe distills,
            and without one the network learns from the labels alone. Moved to the device, in place.
        resume: go on where `last` stands; a finished run is handed back as it is.
        group: the processes that train together, and the device of this one.
        listener: told how it goes.
        inputs: what the user asked for, for args.yaml.

    Returns:
        All epochs so far; the network holds the last weights.

    Raises:
        UsageError: a knob that timm does not know, or an output folder that exists.
        DataError: see `data`; also classes that differ between splits or from the network.
        TrainingError: nothing to resume, another run's folder, processes that read different states
            of it, or a loss that is not finite.
    """
    asked = recipe
    if resume:
        recipe, data = same_run(out, recipe, data, group)
        check_same_images(out, network.source)
    run, lines = _prepare(network, data, recipe, out, teacher, group, listener, asked=asked)
    if resume:
        progress = load_last(run)
        check_together(progress.epoch * run.n_steps + progress.step, group)
        if progress.epoch >= run.n_epochs:
            lines = (
                f"the run in {out} is finished: {counted(progress.epoch, 'epoch')} of "
                f"{run.n_epochs}; nothing "
                "is left to train",
            )
    else:
        progress = Progress()
        if group.is_first:
            resolved = replace(data, cache=cache_of(run.train))
            print_of_data = fingerprint(run.train.dataset)
            begin_run(
                out, run.recipe, resolved, network.source, group, inputs, print_of_data, asked
            )
            with removed_on_error(out):  # what cannot be saved is told now; a kill can be resumed
                save_last(run, progress)
        group.wait()
    if group.is_first:
        for line in lines:
            listener.say(line)
    keeper = Keeper(run, progress)
    with held_interrupt() as stop, told_between_batches():
        try:
            with memory_kept(), tried_convolutions(group.device):
                interrupted = _train(run, progress, keeper, stop)
        except DataError:  # a damaged image costs no work: it is repaired, and the run resumed
            if group.size == 1:
                keeper.save_last()
            raise
        finally:
            run.leave()
        return keeper.finish(interrupted)


def _prepare(
    network: Network,
    data: DataOptions,
    recipe: Recipe,
    out: Path,
    teacher: nn.Module | None,
    group: Group,
    listener: Listener,
    *,
    asked: Recipe,
) -> tuple[Run, tuple[str, ...]]:
    """Everything the loop works with, and how it will compute, in words."""
    shape = network.source.preprocessing.input_size
    train, val = open_loaders(network, data, recipe, group, listener.stage)
    network = after_training(network, train)
    network.module.to(group.device)
    n_steps = len(train) // recipe.grad_accum_steps
    recipe, path = decide(
        recipe, network.module, shape, n_steps * recipe.epochs, group.device, asked, group
    )
    run = make_run(
        network,
        recipe,
        out,
        group,
        (train, val),
        n_steps=n_steps,
        must_compile=asked.compile is True,
        teacher=teacher,
        listener=listener,
    )
    if recipe.compile and not run.recipe.compile:
        path = path.rpartition(", ")[0] + ", not compiled (torch.compile failed)"
    if run.n_epochs * n_steps < FEW_STEPS and group.is_first:
        n_images = train.batch_size * recipe.grad_accum_steps * group.size
        _log.warning("%s", few_steps(run.n_epochs, n_steps, n_images))
    return run, (path, train.why, *([run.views.why] if run.views is not None else []))


def _train(run: Run, progress: Progress, keeper: Keeper, stop: Stop) -> bool:
    """Trains from `progress` to the end; True if it was interrupted, and then `last` says where."""
    group = run.group
    while progress.epoch < run.n_epochs and not group.any(stop()):
        images = _take_steps(run, progress, keeper, stop)
        settle_norms(run)
        evaluation = _look_at_end(run, progress, keeper, stop)
        if group.any(stop()):  # also during the evaluation, which is then done again
            with stop.after_saving():
                keeper.save_last()
            break
        layers = run.diagnose(images, progress.epoch)
        record = epoch_record(progress, evaluation, layers, *run.knobs(progress.epoch))
        with stop.after_saving():
            keeper.finish_epoch(record, layers, evaluation)
        _tell(run.listener.on_epoch, record, group, stop)
    return progress.epoch < run.n_epochs


def _take_steps(run: Run, progress: Progress, keeper: Keeper, stop: Stop) -> Tensor | None:
    """The steps of an epoch that are still to be done, until somebody wants to stop.

    Returns:
        The images of the last batch; None where no step was left.
    """
    run.enter(progress.epoch, progress.step)
    run.module.train()
    run.train.set_epoch(progress.epoch, start=progress.step * run.recipe.grad_accum_steps)
    batches = Waits(run.train)
    meter = Meter(progress, run.n_epochs, run.n_steps, run.group, batches)
    images, stopping = None, False
    try:
        while progress.step < run.n_steps and not stopping:
            images = _take_step(run, progress, batches, meter)
            if meter.is_due(run.log_interval):
                record = meter.read(*run.knobs(progress.epoch))
                _tell(run.listener.report, record, run.group, stop)
            stopping = _stop_or_save(run, meter, keeper, stop)
    except BaseException as error:  # a damaged image may end the pass
        if run.group.size == 1:  # the others are in the middle of a step
            meter.settle()
        # a worker that got the signal which asked the run to stop is no error
        if run.group.size > 1 or not (stop() and isinstance(error, LostWorkerError)):
            raise
    finally:
        batches.close()
    meter.settle()
    return images


def _take_step(run: Run, progress: Progress, batches: Waits, meter: Meter) -> Tensor:
    """One step, with its books; the images of its last batch."""
    seen = []

    def look(batch: Computed) -> None:
        _check(run, progress, batch)
        seen.append((batch.loss.detach(), batch.logits.detach(), batch.targets))

    number = progress.epoch * run.n_steps + progress.step
    batch = run.step(islice(batches, run.recipe.grad_accum_steps), number, computed=look)
    progress.step += 1
    for figures in seen:  # a step that a damaged image ends counts nowhere: it is done again
        meter.add(*figures)
    if progress.step % run.look_interval == 0:
        run.diagnostics.look()
    return batch.images


def _stop_or_save(run: Run, meter: Meter, keeper: Keeper, stop: Stop) -> bool:
    """After a step: whether somebody wants to stop; else `last` is written where it is time to."""
    group = run.group
    if group.size > 1 and not (meter.is_due(run.log_interval) or keeper.at_interval()):
        return False
    if group.any(stop()):
        return True
    if group.any(keeper.is_due()):
        meter.settle()
        with stop.after_saving():
            keeper.save_last()
    return False


def _check(run: Run, progress: Progress, batch: Computed) -> None:
    """On the CPU, where looking costs nothing: refuses a loss that is not finite, before the step.

    Elsewhere the meter sees it at the next report.

    Raises:
        TrainingError: it is not; says in which layer that began.
    """
    if run.group.device.type != "cpu" or math.isfinite(batch.loss.item()):
        return
    place = None  # with several processes, what synchronizes would wait for the others
    if run.group.size == 1:
        place = first_nonfinite(run.module, batch.images, run.recipe.amp)
    raise TrainingError(not_finite(progress, run.n_steps, place))


def _look_at_end(run: Run, progress: Progress, keeper: Keeper, stop: Stop) -> Evaluation | None:
    """Of an epoch: evaluates, after the last one with norms that are measured anew.

    What was trained is saved before that, which takes as long as its images do.
    """
    if run.group.any(stop()):
        return None
    if run.recipe.calibrate_images and progress.epoch + 1 == run.n_epochs:
        with stop.after_saving():
            keeper.save_last()
        calibrate(run, stop)
    return _validate(run, progress, keeper, stop)


def _validate(run: Run, progress: Progress, keeper: Keeper, stop: Stop) -> Evaluation | None:
    """Evaluates after an epoch; None where none is due or somebody wants to stop."""
    last = progress.epoch + 1 == run.n_epochs
    due = last or (progress.epoch + 1) % run.recipe.val_interval == 0
    if run.group.any(stop()) or not due:
        return None
    saved = False

    def watch(_done: int, _total: int) -> None:
        nonlocal saved
        if stop() and run.group.size == 1:
            raise KeyboardInterrupt
        if stop() and not saved:  # the others wait for this one's sums, and may be given no time
            with stop.after_saving():
                keeper.save_last()
            saved = True

    # what is exported computes in float32; bfloat16 would round some values across zero
    amp = None if run.phase is not None else run.recipe.amp
    module = run.averaged.module
    n_params = sum(parameter.numel() for parameter in module.parameters())
    subject = Subject(
        str(run.out),
        "float" if run.phase is None else "binary",
        class_names(run.val.dataset),
        n_params,
        4 * n_params,
        run.network.source.preprocessing,
    )
    begin = time.perf_counter()
    try:
        evaluation = evaluate(
            module,
            run.val,
            subject,
            device=run.group.device,
            amp_dtype=amp,
            report=watch,
            group=run.group,
        )
    except KeyboardInterrupt:
        stop.request()
        return None
    progress.eval_seconds = time.perf_counter() - begin
    return evaluation


def _tell(told: Callable[[_Record], None], record: _Record, group: Group, stop: Stop) -> None:
    """Tells a listener; a KeyboardInterrupt that it raises ends training in an orderly way."""
    if not group.is_first:
        return
    try:
        told(record)
    except KeyboardInterrupt:
        stop.request()
