"""The training loop, top to bottom: `_train` is all that happens, `finetune` prepares it.

EDE moves with the global step (the authors move it once an epoch and never reach t_max). Before
every step everything random is seeded by (seed, step), so a run that goes on after an interruption
computes what one without it would have.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from timm.utils.clip_grad import dispatch_clip_grad
from torch import Tensor, nn

from irbin.binary.anneal import EdePhase
from irbin.binary.layers import phase_of
from irbin.data import class_names
from irbin.data.batches import Loader, seed_all
from irbin.errors import DataError, UsageError
from irbin.evaluation import autocast, evaluate
from irbin.network.folder import save_folder
from irbin.network.network import Network
from irbin.records import (
    DataOptions,
    EpochRecord,
    Evaluation,
    JsonValue,
    RunRecord,
    StepRecord,
)  # fmt: skip
from irbin.training.distill import distillation_loss, task_loss
from irbin.training.interrupt import Stop, held_interrupt
from irbin.training.meter import Meter, epoch_record
from irbin.training.mixing import Mix, make_mix
from irbin.training.optimize import learning_rate, make_optimizer, make_scheduler
from irbin.training.prepare import after_training, open_loaders, ready_device, ready_teacher
from irbin.training.recipe import Recipe
from irbin.training.resume import Progress, load_last, save_last
from irbin.training.run_folder import (
    begin_run,
    check_same_run,
    removed_on_error,
    replace_folder,
    write_summary,
)

Report = Callable[[StepRecord], None]
_Record = TypeVar("_Record")
OnEpoch = Callable[[EpochRecord], None]


@dataclass(frozen=True, eq=False)
class _Run:
    """Everything the loop works with; made once by `finetune`."""

    network: Network
    recipe: Recipe
    out: Path
    device: torch.device
    train: Loader
    val: Loader
    phase: EdePhase | None
    forward: Callable[[Tensor], Tensor]
    teacher: Callable[[Tensor], Tensor] | None
    mix: Mix
    optimizer: torch.optim.Optimizer
    scheduler: Any
    scaler: torch.amp.GradScaler
    n_epochs: int
    report: Report | None
    on_epoch: OnEpoch | None

    @property
    def log_interval(self) -> int:
        """Steps between two reports, each of which waits for the device."""
        return self.recipe.log_interval or (1 if self.device.type == "cpu" else 20)

    @property
    def n_steps(self) -> int:
        """Steps in an epoch."""
        return len(self.train)

    def save(self, progress: Progress) -> None:
        """Writes `last`."""
        save_last(
            self.out, self.network, self.optimizer, self.scaler, progress, self.train.n_images
        )


def finetune(
    network: Network,
    data: DataOptions,
    recipe: Recipe,
    out: Path,
    *,
    teacher: nn.Module | None = None,
    resume: bool = False,
    device: str = "cpu",
    report: Report | None = None,
    on_epoch: OnEpoch | None = None,
    inputs: Mapping[str, JsonValue] | None = None,
) -> RunRecord:
    """Trains a network, in place, and writes a run folder: args.yaml, summary.csv, last/, best/.

    The first Ctrl-C ends training after the step under way and saves `last`; so does a
    KeyboardInterrupt that `report` or `on_epoch` raises.

    Args:
        network: float, or converted: then trained with EDE.
        data: training and validation split.
        recipe: every knob.
        out: run folder; new, or that of the run to go on with.
        teacher: maps the same images to logits of the same shape; used where the recipe distills,
            and without one the network learns from the labels alone. Moved to the device, in place.
        resume: go on where `last` stands; a finished run is handed back as it is.
        device: torch's name of it.
        report: called every `log_interval` steps.
        on_epoch: called after every epoch, when everything is saved.
        inputs: what the user asked for, for args.yaml.

    Returns:
        All epochs so far; the network holds the last weights.

    Raises:
        UsageError: a knob that timm does not know, or an output folder that exists.
        DataError: see `data`; also classes that differ between splits or from the network.
        TrainingError: nothing to resume, another run's folder, or a loss that is not finite.
    """
    place = ready_device(device)
    if resume:
        check_same_run(out, recipe, data)
    train, val = open_loaders(network, data, recipe, place)
    network = after_training(network, train)
    module = network.module.to(place)
    if recipe.channels_last:
        module = module.to(memory_format=torch.channels_last)
    phase = phase_of(module) if network.plan is not None else None
    if phase is not None:
        phase.set_range(recipe.t_min, recipe.t_max)
    optimizer = make_optimizer(module, recipe)
    scheduler, n_epochs = make_scheduler(optimizer, recipe, len(train))
    run = _Run(
        network, recipe, out, place, train, val, phase,
        forward=torch.compile(module) if recipe.compile else module,
        teacher=ready_teacher(teacher, recipe, place),
        mix=make_mix(recipe, network.source.num_classes, train.batch_size, place),
        optimizer=optimizer, scheduler=scheduler,
        scaler=torch.amp.GradScaler(place.type, enabled=recipe.amp == "float16"),
        n_epochs=n_epochs, report=report, on_epoch=on_epoch,
    )  # fmt: skip
    if resume:
        progress = load_last(out, network, optimizer, run.scaler, train.n_images)
    else:
        progress = Progress()
        begin_run(out, recipe, data, network.source, device, inputs)
        with removed_on_error(out):  # what cannot be saved is told now; a kill can be resumed
            run.save(progress)
    try:
        interrupted = _train(run, progress)
    except DataError:  # a damaged image costs no work: it is repaired, and the run resumed
        run.save(progress)
        raise
    return RunRecord(
        path=str(out),
        epochs=tuple(progress.records),
        best_epoch=progress.best_epoch,
        best_top1=progress.best_top1,
        interrupted=interrupted,
    )


def _train(run: _Run, progress: Progress) -> bool:
    """Trains from `progress` to the end; True if it was interrupted, and then `last` says where."""
    module, recipe, optimizer = run.network.module, run.recipe, run.optimizer
    total = run.n_epochs * run.n_steps
    with held_interrupt() as stop:
        while progress.epoch < run.n_epochs and not stop():
            meter = Meter(progress, run.n_epochs, run.n_steps, run.device)
            module.train()
            run.train.set_epoch(progress.epoch, start=progress.step)
            try:
                for images, labels in run.train:
                    step = progress.epoch * run.n_steps + progress.step
                    seed_all(recipe.seed, step, device=run.device)
                    images, targets = run.mix(images, labels, progress.epoch)
                    with autocast(run.device, recipe.amp):
                        logits = run.forward(images)
                    loss = _loss(run, images, logits, targets)
                    run.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch's gap
                    if recipe.clip_grad is not None:
                        run.scaler.unscale_(optimizer)
                        dispatch_clip_grad(module.parameters(), recipe.clip_grad, recipe.clip_mode)
                    run.scaler.step(optimizer)
                    run.scaler.update()
                    optimizer.zero_grad()
                    run.scheduler.step_update(step + 1)
                    if run.phase is not None:
                        run.phase.set_progress((step + 1) / total)
                    meter.add(loss, logits, targets)
                    if meter.is_due(run.log_interval):
                        _tell(run.report, meter.read(*_knobs(run)), stop)
                    if stop():
                        break
            finally:  # a damaged image may end the pass
                meter.settle()
            evaluation = _validate(run, progress, stop)
            if stop():  # also during the evaluation, which is then done again
                run.save(progress)
                break
            record = epoch_record(progress, evaluation, *_knobs(run))
            if progress.finish_epoch(record):
                replace_folder(run.out / "best", lambda folder: save_folder(run.network, folder))
            run.save(progress)
            write_summary(run.out, progress.records)
            _tell(run.on_epoch, record, stop)
    return progress.epoch < run.n_epochs


def _loss(run: _Run, images: Tensor, logits: Tensor, targets: Tensor) -> Tensor:
    """What the step descends: the labels' loss, and the teacher's where there is one; float32."""
    recipe = run.recipe
    task = task_loss(logits, targets, recipe.smoothing)
    if run.teacher is None:
        return task
    with torch.no_grad(), autocast(run.device, recipe.amp):
        wanted = run.teacher(images)
    if wanted.shape != logits.shape:
        raise UsageError(
            f"`teacher`: expected outputs of shape {tuple(logits.shape)} as the network's, "
            f"got {tuple(wanted.shape)}"
        )
    distilled = distillation_loss(logits, wanted, recipe.kd_temperature)
    return recipe.task_loss_weight * task + recipe.distill_loss_weight * distilled


def _validate(run: _Run, progress: Progress, stop: Stop) -> Evaluation | None:
    """Evaluates after an epoch; None where none is due or somebody wants to stop."""
    last = progress.epoch + 1 == run.n_epochs
    if stop() or not (last or (progress.epoch + 1) % run.recipe.val_interval == 0):
        return None

    def watch(_done: int, _total: int) -> None:
        if stop():
            raise KeyboardInterrupt

    module = run.network.module
    n_params = sum(parameter.numel() for parameter in module.parameters())
    begin = time.perf_counter()
    try:
        evaluation = evaluate(
            module, run.val, name=str(run.out), kind="float" if run.phase is None else "binary",
            class_names=class_names(run.val.dataset), param_count=n_params, size_bytes=4 * n_params,
            preprocessing=run.network.source.preprocessing, device=run.device,
            amp_dtype=run.recipe.amp, report=watch,
        )  # fmt: skip
    except KeyboardInterrupt:
        stop.request()
        return None
    progress.eval_seconds = time.perf_counter() - begin
    return evaluation


def _knobs(run: _Run) -> tuple[float, float, float]:
    """Learning rate, t and k as they stand; t and k are NaN for a float network."""
    lr = learning_rate(run.optimizer)
    if run.phase is None:
        return lr, math.nan, math.nan
    return lr, float(run.phase.t), float(run.phase.k)


def _tell(listener: Callable[[_Record], None] | None, record: _Record, stop: Stop) -> None:
    """Calls a listener; a KeyboardInterrupt that it raises ends training in an orderly way."""
    if listener is None:
        return
    try:
        listener(record)
    except KeyboardInterrupt:
        stop.request()
