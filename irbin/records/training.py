"""A run: its steps, its epochs, its layers; torch-free."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class StepRecord:
    """Where training stands. Made by `training.loop` every step, read by the live display."""

    epoch: int
    """Counts from 0."""
    n_epochs: int
    step: int
    """Within the epoch, counts from 1."""
    n_steps: int
    """Per epoch."""
    images_per_second: float
    """Mean over the epoch so far."""
    loss: float
    """Mean over the epoch so far."""
    top1: float
    """Training accuracy over the epoch so far, per cent; nan where mixup blurs the targets."""
    lr: float
    t: float
    """EDE sharpness; nan where nothing is binary."""
    k: float
    """EDE amplitude; nan where nothing is binary."""
    seconds_left: float
    """Estimate for all remaining epochs."""
    waiting: float = 0.0
    """Share of the epoch's time so far that steps waited for images, 0 to 1."""
    stage: str = ""
    """As in `EpochRecord`."""


@dataclass(frozen=True)
class LayerDiagnostics:
    """One row of `diagnostics.csv`: a binary layer at an epoch's end.

    Made by `watching.diagnostics`, read by `watching.symptoms` and reports. Shares are 0 to 1. At
    1w32a, where no activation is binary, what concerns activations is nan.
    """

    epoch: int
    """Counts from 0."""
    layer: str
    """Dotted name."""
    flip_ratio: float
    """Share of the weights' signs that differ from those at the end of the epoch before."""
    never_flipped: float
    """Share of the weights whose sign was never seen to change since the run began."""
    weight_entropy: float
    """Mean over filters of H(share of +1), bits: 1 is balanced (IR-Net, §3.2)."""
    weight_gradient: float
    """Share of the weights whose gradient is usable: g'(ŵ) ≥ 0.1 under the present t and k."""
    activation_entropy: float
    """Mean over input channels of H(share of +1), bits."""
    dead_channels: float
    """Share of the input channels whose sign is the same on more than 99 % of a batch's pixels."""
    activation_gradient: float
    """Share of the activations with usable gradient."""
    statistics_gap: float
    """How far the batch's mean is from the running mean of the next batch norm: mean over channels
    of |difference| in running standard deviations; nan where none follows."""


@dataclass(frozen=True)
class EpochRecord:
    """One row of `summary.csv`. Made by `training.loop`."""

    epoch: int
    train_loss: float
    train_top1: float
    eval_loss: float
    eval_top1: float
    eval_top5: float
    lr: float
    t: float
    """EDE sharpness at the epoch's end; nan where nothing is binary."""
    k: float
    """EDE amplitude at the epoch's end; nan where nothing is binary."""
    images_per_second: float
    seconds: float
    waiting: float = math.nan
    """Share of the steps' time spent waiting for images, 0 to 1."""
    flip_ratio: float = math.nan
    """This and what follows: means over the binary layers of `LayerDiagnostics`."""
    never_flipped: float = math.nan
    weight_entropy: float = math.nan
    weight_gradient: float = math.nan
    activation_entropy: float = math.nan
    dead_channels: float = math.nan
    activation_gradient: float = math.nan
    statistics_gap: float = math.nan
    stage: str = ""
    """What is binary in a run of several stages: nothing (`float`), `activations`, all (`binary`);
    empty where the run has one stage."""
    steps: int = 0
    """Of the optimizer in the epoch; 0 where an older irbin did not write it."""

    @property
    def counts(self) -> bool:
        """Whether what was evaluated is the network that the run is for: that of its last stage."""
        return self.stage in ("", "binary")


@dataclass(frozen=True)
class ClassAccuracy:
    """One row of `classes.csv`. Made by `training.keeping`, read by reports."""

    name: str
    """Of the class."""
    best: float
    """Per cent of its validation images that were answered right in the run's best epoch."""
    last: float
    """The same in the last epoch that was evaluated."""


@dataclass(frozen=True)
class RunRecord:
    """How a fine-tune went. Made by `training.loop`, read by reports."""

    path: str
    """Run folder."""
    epochs: tuple[EpochRecord, ...]
    """All epochs so far."""
    best_epoch: int
    """Epoch of the best `eval_top1` of those that count, −1 if none was evaluated."""
    best_top1: float
    """Per cent."""
    interrupted: bool
    """Ctrl-C ended it early; `last` holds where."""
