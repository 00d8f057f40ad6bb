"""Loss, accuracy and time of the epoch under way, summed on the device and read only when asked.

Reading waits for the device, so the loop reads every few steps; the check that the loss is finite
rides along.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from irbin.errors import TrainingError
from irbin.evaluation.tally import sum_type
from irbin.messages import counted
from irbin.processes import Group
from irbin.records.results import Evaluation
from irbin.records.training import EpochRecord, LayerDiagnostics, StepRecord
from irbin.training.resume import Progress
from irbin.training.waits import Waits
from irbin.watching.diagnostics import epoch_means


class Meter:
    """Sums of one epoch, begun where `progress` says, and put back there by `settle`.

    Several processes each sum their own images; what is read and put back is everybody's.

    Args:
        progress: where the run stands.
        n_epochs: epochs of the run.
        n_steps: steps of an epoch.
        group: the processes; the first one goes on from the sums in `progress`.
        waits: the epoch's batches.
    """

    def __init__(
        self, progress: Progress, n_epochs: int, n_steps: int, group: Group, waits: Waits
    ) -> None:
        self.progress, self.n_epochs, self.n_steps, self.group = progress, n_epochs, n_steps, group
        self.waits = waits
        begun = [progress.loss_sum, progress.n_right] if group.is_first else [0.0, 0.0]
        self._sums = torch.tensor(begun, dtype=sum_type(group.device), device=group.device)
        self._first_step, self._begin = progress.step, time.perf_counter()

    def add(self, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Counts a batch: its mean loss, logits (batch, num_classes), labels or mixed targets."""
        n_images, kind = len(logits), self._sums.dtype
        self.progress.n_seen += n_images * self.group.size
        if targets.dim() == 1:
            right = (logits.detach().argmax(dim=1) == targets).sum().to(kind)
        else:  # which of two mixed labels would be right?
            right = loss.new_full((), math.nan, dtype=kind)
        self._sums += torch.stack([loss.detach().to(kind) * n_images, right])

    def is_due(self, interval: int) -> bool:
        """Whether the step just done is one to report."""
        return self.progress.step % interval == 0 or self.progress.step == self.n_steps

    def read(self, lr: float, t: float, k: float, stage: str = "") -> StepRecord:
        """Where training stands; waits for the device and the other processes.

        Raises:
            TrainingError: the loss is not finite.
        """
        progress = self.progress
        loss, right = self._read()
        seconds = time.perf_counter() - self._begin
        steps_left = self.n_steps * (self.n_epochs - progress.epoch) - progress.step
        each = seconds / max(progress.step - self._first_step, 1)
        rest = progress.eval_seconds * (self.n_epochs - progress.epoch)
        spent = max(progress.seconds + seconds, 1e-9)
        return StepRecord(
            epoch=progress.epoch,
            n_epochs=self.n_epochs,
            step=progress.step,
            n_steps=self.n_steps,
            images_per_second=progress.n_seen / spent,
            loss=loss / progress.n_seen,
            top1=100 * right / progress.n_seen,
            lr=lr,
            t=t,
            k=k,
            seconds_left=steps_left * each + rest,
            stage=stage,
            waiting=(progress.waiting + self.waits.seconds) / spent,
        )

    def settle(self) -> None:
        """Puts the sums back into the progress that the meter began with, in place.

        Raises:
            TrainingError: the loss is not finite.
        """
        loss, right = self._read()
        progress = self.progress
        progress.loss_sum, progress.n_right = loss, right
        now = time.perf_counter()
        progress.seconds += now - self._begin
        progress.waiting += self.waits.seconds
        self.waits.seconds = 0.0
        self._first_step, self._begin = progress.step, now
        if not self.group.is_first:
            self._sums.zero_()

    def _read(self) -> tuple[float, float]:
        """Loss and right answers of all processes."""
        loss, right = self.group.sum(self._sums.clone()).tolist()
        if not math.isfinite(loss):
            raise TrainingError(not_finite(self.progress, self.n_steps, None))
        return loss, right


def not_finite(progress: Progress, n_steps: int, place: str | None) -> str:
    """The message of a loss that is NaN or infinite.

    Args:
        progress: where the run stands; its step counts those done.
        n_steps: steps of an epoch.
        place: a clause that says where it began, if that is known.
    """
    where = "" if place is None else f": {place}"
    return (
        f"the loss is no longer finite in epoch {progress.epoch} at step {progress.step} of "
        f"{n_steps}{where}; what was saved before is kept: try a lower `lr=` or `clip_grad=1`"
    )


def epoch_record(
    progress: Progress,
    evaluation: Evaluation | None,
    layers: Sequence[LayerDiagnostics],
    lr: float,
    t: float,
    k: float,
    stage: str = "",
) -> EpochRecord:
    """The row of an epoch whose steps are done; NaN where it was not evaluated.

    Raises:
        TrainingError: the evaluation's loss is not finite.
    """
    nothing = math.nan
    if evaluation is not None and not math.isfinite(evaluation.loss):
        raise TrainingError(
            f"the loss on the validation split is {evaluation.loss} after epoch {progress.epoch}; "
            "what was saved before is kept: try a lower `lr=` or `clip_grad=1`"
        )
    return EpochRecord(
        epoch=progress.epoch,
        train_loss=progress.loss_sum / progress.n_seen,
        train_top1=100 * progress.n_right / progress.n_seen,
        eval_loss=nothing if evaluation is None else evaluation.loss,
        eval_top1=nothing if evaluation is None else evaluation.top1,
        eval_top5=nothing if evaluation is None else evaluation.top5,
        lr=lr,
        t=t,
        k=k,
        images_per_second=progress.n_seen / max(progress.seconds, 1e-9),
        seconds=progress.seconds + progress.eval_seconds,
        waiting=progress.waiting / max(progress.seconds, 1e-9),
        stage=stage,
        steps=progress.step,
        **epoch_means(layers),
    )


def few_steps(n_epochs: int, n_steps: int, n_images: int) -> str:
    """That a run has few steps, and what makes them more.

    Args:
        n_epochs: of the run.
        n_steps: steps of an epoch.
        n_images: images of a step, over all processes.
    """
    return (
        f"{counted(n_epochs, 'epoch')} of {counted(n_steps, 'step')}, each of "
        f"{counted(n_images, 'image')}, are too few to learn much; a smaller `batch_size=` and "
        "more epochs make more steps"
    )
