"""What is known of a run where its symptoms are looked for. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from irbin.records.kinds import ESTIMATORS, estimator_of_weights
from irbin.records.plan import PlanOptions
from irbin.records.training import EpochRecord, LayerDiagnostics

FEW_STEPS = 100
"""Steps of a whole run below which hardly any network learns: running statistics of batch norm
alone, which take a tenth of every batch, need dozens."""

LITTLE_LEFT = 0.1
"""Share of a run's epochs at its end in which signs may settle and gradients vanish."""

SMALL_LR = 0.1
"""Times the highest learning rate so far: below it, few flips are no wonder."""


@dataclass(frozen=True)
class Seen:
    """What there is to judge from."""

    epochs: Sequence[EpochRecord]
    layers: Sequence[LayerDiagnostics]
    n_classes: int
    n_epochs: int
    options: PlanOptions

    @property
    def now(self) -> EpochRecord:
        """The last epoch that is done."""
        return self.epochs[-1]

    @property
    def is_settling(self) -> bool:
        """Whether so little of the run is left that signs may stand still."""
        return self.n_epochs - len(self.epochs) < max(LITTLE_LEFT * self.n_epochs, 1)

    def is_by_ede(self, what: str) -> bool:
        """Whether the gradient of `activations` or `weights` follows EDE's t."""
        own = self.options.weight_estimator if what == "weights" else "same"
        return ESTIMATORS[estimator_of_weights(self.options.estimator, own)].anneals

    @property
    def n_steps(self) -> int:
        """Steps taken so far; 0 where nobody wrote how many."""
        return sum(epoch.steps for epoch in self.epochs)

    @property
    def is_short(self) -> bool:
        """Whether the whole run has too few steps."""
        return 0 < self.now.steps * self.n_epochs < FEW_STEPS

    @property
    def is_too_early(self) -> bool:
        """Whether more steps will tell what is learned, and too few were taken to say it now."""
        return 0 < self.n_steps < FEW_STEPS and not self.is_short

    @property
    def lr_is_high(self) -> bool:
        """Whether the learning rate is near enough to its highest for signs to flip."""
        return self.now.lr >= SMALL_LR * max(epoch.lr for epoch in self.epochs)
