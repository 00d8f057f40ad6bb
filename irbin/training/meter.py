"""Loss, accuracy and time of the epoch under way, summed on the device and read only when asked.

Reading waits for the device, so the loop reads every few steps; the check that the loss is finite
rides along.
"""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor

from irbin.errors import TrainingError
from irbin.records import EpochRecord, Evaluation, StepRecord
from irbin.training.resume import Progress


class Meter:
    """Sums of one epoch, begun where `progress` says, and put back there by `settle`.

    Args:
        progress: where the run stands.
        n_epochs: epochs of the run.
        n_steps: steps of an epoch.
        device: where losses are.
    """

    def __init__(
        self, progress: Progress, n_epochs: int, n_steps: int, device: torch.device
    ) -> None:
        self.progress, self.n_epochs, self.n_steps = progress, n_epochs, n_steps
        self._loss = torch.tensor(progress.loss_sum, dtype=torch.float64, device=device)
        self._right = torch.tensor(progress.n_right, dtype=torch.float64, device=device)
        self._first_step, self._begin = progress.step, time.perf_counter()

    def add(self, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Counts a step: its mean loss, logits (batch, num_classes), labels or mixed targets."""
        self.progress.step += 1
        self.progress.n_seen += len(logits)
        self._loss += loss.detach().double() * len(logits)
        if targets.dim() == 1:
            self._right += (logits.detach().argmax(dim=1) == targets).sum()
        else:  # which of two mixed labels would be right?
            self._right.fill_(math.nan)

    def is_due(self, interval: int) -> bool:
        """Whether the step just counted is one to report."""
        return self.progress.step % interval == 0 or self.progress.step == self.n_steps

    def read(self, lr: float, t: float, k: float) -> StepRecord:
        """Where training stands; waits for the device.

        Raises:
            TrainingError: the loss is not finite.
        """
        progress = self.progress
        loss = self._finite_loss()
        seconds = time.perf_counter() - self._begin
        steps_left = self.n_steps * (self.n_epochs - progress.epoch) - progress.step
        each = seconds / max(progress.step - self._first_step, 1)
        rest = progress.eval_seconds * (self.n_epochs - progress.epoch)
        return StepRecord(
            epoch=progress.epoch,
            n_epochs=self.n_epochs,
            step=progress.step,
            n_steps=self.n_steps,
            images_per_second=progress.n_seen / max(progress.seconds + seconds, 1e-9),
            loss=loss / progress.n_seen,
            top1=100 * float(self._right) / progress.n_seen,
            lr=lr,
            t=t,
            k=k,
            seconds_left=steps_left * each + rest,
        )

    def settle(self) -> None:
        """Puts the sums back into the progress that the meter began with, in place.

        Raises:
            TrainingError: the loss is not finite.
        """
        self.progress.loss_sum = self._finite_loss()
        self.progress.n_right = float(self._right)
        self.progress.seconds += time.perf_counter() - self._begin

    def _finite_loss(self) -> float:
        loss = float(self._loss)
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss is no longer finite in epoch {self.progress.epoch} at step "
                f"{self.progress.step} of {self.n_steps}; what was saved before is kept: "
                "try a lower `--lr` or `--clip-grad 1`"
            )
        return loss


def epoch_record(
    progress: Progress,
    evaluation: Evaluation | None,
    lr: float,
    t: float,
    k: float,
) -> EpochRecord:
    """The row of an epoch whose steps are done; NaN where it was not evaluated.

    Raises:
        TrainingError: the evaluation's loss is not finite.
    """
    nothing = math.nan
    if evaluation is not None and not math.isfinite(evaluation.loss):
        raise TrainingError(
            f"the loss on the validation split is {evaluation.loss} after epoch {progress.epoch}; "
            "what was saved before is kept: try a lower `--lr` or `--clip-grad 1`"
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
    )
