"""What an entry of the zoo is and how it came about; torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from irbin.errors import UsageError
from irbin.records.json import JsonValue
from irbin.records.plan import Bits


@dataclass(frozen=True)
class Curve:
    """How a run learned: in each field one figure for every evaluated epoch. Made by `history`."""

    epoch: tuple[int, ...]
    """Counted from 1."""
    train_loss: tuple[float, ...]
    eval_loss: tuple[float, ...]
    top1: tuple[float, ...]
    """Per cent, of the trained form."""


@dataclass(frozen=True)
class ZooRun:
    """A run that an entry of the zoo comes from, without any machine's paths. Made by `history`."""

    commands: tuple[str, ...]
    """What to type, in order, to repeat it with the irbin that wrote this."""
    recipe: str
    """Name of the recipe that set the defaults, as it is called today."""
    knobs: dict[str, JsonValue]
    """Every knob as it was in the end; knobs that came later are missing, and were off."""
    seed: int
    epochs: int
    """That were done; `knobs` says how many were wanted."""
    seconds: float
    """Of all its epochs, evaluation included."""
    started: str
    """Date and time, UTC."""
    machine: dict[str, JsonValue]
    """Processor, cores, memory, device, processes, threads."""
    versions: dict[str, str]
    """Of irbin, torch, timm, NumPy, Python."""
    git: dict[str, JsonValue] | None
    """Revision that the run was started in, and whether files differed; None outside."""
    data: dict[str, JsonValue]
    """`DataOptions`, and the fingerprint of the images."""
    curve: Curve


@dataclass(frozen=True)
class ZooRecord:
    """What an entry of the zoo is and how it came about. Made by `zookeeper`, read by reports."""

    name: str
    network: str
    """Architecture, as in `SourceRecord`."""
    bits: Bits | None
    """Of a packed network; None for a float one."""
    dataset: str
    """Name of the data set."""
    n_images: int
    """Images that the stored files were evaluated on: a whole validation split."""
    top1: float
    """Per cent, of the stored files."""
    top5: float
    """Per cent."""
    loss: float
    """Mean cross-entropy, nats."""
    kept: Literal["best", "last"]
    """Which of its last run's networks it is."""
    kept_epoch: int
    """Of that run, counted from 1."""
    teacher: str | None
    """The trained float network that it came from or was distilled from; None if from scratch."""
    teacher_top1: float | None
    """Per cent, on the same images."""
    size_bytes: int
    """Of the files that run it, as `irbin eval` counts: a packed folder's three, or the float
    network's weights."""
    tensor_bytes: int
    """Of the tensors in them alone."""
    float_bytes: int
    """Of the float network's parameters as float32."""
    added: str
    """Date, UTC."""
    runs: tuple[ZooRun, ...]
    """Oldest first, its own last. Those before are where it began or was taught, as far as no other
    entry of the zoo tells that."""

    def __post_init__(self) -> None:
        """Checks that it came from somewhere."""
        if not self.runs:
            raise UsageError("`runs`: expected at least one run, got none")

    @property
    def hours(self) -> float:
        """Of all runs."""
        return sum(run.seconds for run in self.runs) / 3600
