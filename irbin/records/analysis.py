"""How a network bears binarization; torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from irbin.records.given import check_record
from irbin.records.knob import BUDGET, Knob
from irbin.records.plan import PlanOptions

Grouping = Literal["layer", "block"]
Ranking = Literal["bytes", "time"]
BudgetKind = Literal["bytes", "latency", "drop"]


@dataclass(frozen=True)
class AnalysisOptions:
    """What is measured, and for what budget. Made by callers, read by `analysis`.

    Raises:
        UsageError: a value of another type, or one that cannot be meant.
    """

    by: Annotated[
        Grouping, Knob(None, "Binarize a layer at a time, or all of the module around it.")
    ] = "layer"
    samples: Annotated[int, Knob(None, "Validation images to measure on.", "N", least=1)] = 512
    """The same for every network; they are held in memory."""
    calibrate: Annotated[
        int, Knob(None, "Training images to re-estimate batch norm on.", "N", least=0)
    ] = 256
    """0 leaves it."""
    points: Annotated[int, Knob(None, "Networks measured from float to binary.", "N", least=1)] = 12
    """Along the ranking."""
    max_bytes: Annotated[
        int | None,
        Knob(
            BUDGET,
            "Propose layers for at most this packed size: 4MB, 300kB, 250000.",
            "SIZE",
            typed=str,
        ),
    ] = None
    """Predicted tensor bytes of the packed folder."""
    max_latency: Annotated[
        float | None,
        Knob(BUDGET, "… for at most these estimated milliseconds, one image, one thread.", "MS"),
    ] = None
    max_drop: Annotated[
        float | None,
        Knob(BUDGET, "… for at most these points of top-1 lost on the sample.", "POINTS"),
    ] = None

    def __post_init__(self) -> None:
        check_record(self, values=True)


@dataclass(frozen=True)
class LayerAnalysis:
    """What binarizing one layer or block alone does. Made by `analysis`, read by reports."""

    name: str
    """The layer, or the module around a block's layers."""
    layers: tuple[str, ...]
    """What was binary while it was measured."""
    loss: float
    """Mean cross-entropy on the sample, nats; nan where it was not finite."""
    top1: float
    """Per cent of the sample."""
    loss_increase: float
    """Above the float network's loss, nats; nan where that is not finite."""
    standard_error: float
    """Of `loss_increase`, over the images of the sample."""
    bytes_saved: int
    """In the packed folder."""
    seconds_saved: float
    """Of one image on one thread, estimated; may be negative."""


@dataclass(frozen=True)
class PathPoint:
    """A network on the way from float to binary. Made by `analysis`, read by reports."""

    n_binary: int
    """Layers."""
    packed_bytes: int
    """Predicted bytes of all tensors in the packed folder."""
    seconds: float
    """Of one image on one thread, estimated."""
    loss: float
    """Mean cross-entropy on the sample, nats; nan where it was not finite."""
    top1: float
    """Per cent of the sample."""
    on_front: bool = False
    """No other measured network is as small and as accurate."""


@dataclass(frozen=True)
class Budget:
    """What a network may cost. Made by callers, read by `analysis` and reports."""

    kind: BudgetKind
    """Of what."""
    limit: float
    """Bytes of the packed folder's tensors, milliseconds, or points of top-1."""


@dataclass(frozen=True)
class Proposal:
    """The layers to binarize for a budget. Made by `analysis`, read by reports."""

    budget: Budget
    """That it keeps."""
    options: PlanOptions
    """What to plan with: the user's own and the `keep` rules for everything else."""
    keep: tuple[str, ...]
    """The rules that came on top of the user's."""
    binary: tuple[str, ...]
    """Layers, in execution order."""
    point: PathPoint
    """What it costs and does, without training."""


@dataclass(frozen=True)
class Analysis:
    """How a float network bears binarization. Made by `analysis`, read by reports."""

    source: str
    """What was analyzed."""
    by: Grouping
    """Whether layers or blocks were measured."""
    ranked_by: Ranking
    """What the loss is set against: bytes, or estimated time where the budget is one of latency."""
    options: PlanOptions
    """What was planned with."""
    n_images: int
    """The sample."""
    n_calibration: int
    """Training images that batch norm was re-estimated on."""
    layers: tuple[LayerAnalysis, ...]
    """The ranking: what costs least loss for what it saves comes first."""
    path: tuple[PathPoint, ...]
    """The float network, then more and more of the ranking binary, last everything."""
    proposal: Proposal | None = None
    """For the budget; None where none was given or none meets it."""
    unmet: str = ""
    """Why there is no proposal although a budget was given."""
    notes: tuple[str, ...] = ()
    """What a reader has to know."""
    interrupted: bool = False
    """Ctrl-C ended it: layers, points or the proposal are missing."""
