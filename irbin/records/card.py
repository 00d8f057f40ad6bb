"""What is known of a packed network beside its manifest, for its card; torch-free."""

from __future__ import annotations

from dataclasses import dataclass

from irbin.records.compression import Timing
from irbin.records.results import Evaluation


@dataclass(frozen=True)
class TrainedFacts:
    """A run that a packed network comes from. Made by `runs.folder`, read by `card`."""

    recipe: str
    """Its name as it was given; `default` where none was."""
    epochs: int
    """That were done."""
    data: str
    """The data set's name, or its folder's, without the way there."""
    best_epoch: int
    """Counted from 1."""
    best_top1: float
    """Per cent of the run's validation split, of the trained form."""


@dataclass(frozen=True)
class CardFacts:
    """Everything that a card tells and a manifest does not. Made by `exporting`, read by `card`."""

    total_bytes: int
    """Of the three files."""
    trained: TrainedFacts | None = None
    """None where no run says it."""
    licence: str | None = None
    """Of the weights that it was made from, as the hub spells it; None where nobody states it."""
    base_model: str | None = None
    """The hub's repository of those weights."""
    evaluations: tuple[Evaluation, ...] = ()
    """What was measured of it, and beside it."""
    timing: Timing | None = None
    """Where it was measured."""
    float_trained: TrainedFacts | None = None
    """Of the float network that it was made from, where irbin trained that; None elsewhere."""
