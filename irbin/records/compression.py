"""What `compress` did and measured, step by step; torch-free."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from irbin.records.json import JsonValue
from irbin.records.knob import Knob
from irbin.records.results import Agreement, Evaluation, ExportRecord, InputType

StepName = Literal["train", "analyze", "convert", "finetune", "export", "evaluate"]


@dataclass(frozen=True)
class CompressOptions:
    """What is done beside converting and fine-tuning. Made by callers, read by `compression`."""

    budget: Annotated[
        str | None,
        Knob(
            None,
            "Keep layers float for size=4MB, latency=5 (ms) or drop=2 (points), as irbin analyze "
            "proposes.",
            "KIND=LIMIT",
        ),
    ] = None
    """Bytes of the packed folder's three files; estimated milliseconds of one image on one thread;
    or points of top-1 on a sample, before fine-tuning."""
    train_float: Annotated[
        bool | None,
        Knob(
            None,
            "Train the float network first, by the recipe float.",
            shown="where its weights or its classifier are random",
        ),
    ] = None
    """As long as the binary one; where a recipe names the network, None does not."""


@dataclass(frozen=True)
class CompressStep:
    """A step that begins or has ended. Made by `compression`, read by the display."""

    name: StepName
    number: int
    """Counted from 1."""
    n_steps: int
    """In all."""
    following: StepName | None
    """What comes after it."""
    outcome: str | None = None
    """In a line, what came of it; None where it begins."""
    stood_there: bool = False
    """Its result was whole before, so nothing was done."""


@dataclass(frozen=True)
class Timing:
    """A packed network's time beside torch's. Made by `compression`, read by reports and cards."""

    packed_ms: float
    """Of one image; a tenth of the runs were faster, which others on the machine disturb least."""
    float_ms: float | None
    """Of the float network in torch, float32, in the same run; None where its code is not here."""
    n_threads: int
    """Of both."""
    processor: str
    """As it calls itself."""
    torch: str
    """Version."""
    kernels: str
    """irbin's implementation that ran."""
    input_type: InputType
    """What both were given; of bytes the float network normalizes first."""
    is_busy: bool = False
    """More ran on the machine than it has cores for."""


@dataclass(frozen=True)
class Compression:
    """How far `compress` has come, and what it measured. Made by `compression`, kept in OUT."""

    path: str
    """The folder OUT."""
    asked: dict[str, JsonValue]
    """What was asked for, by argument; another request does not go on with this one."""
    trains_float: bool = False
    """The float network is trained first, since its weights or its classifier are random."""
    begins_trained: bool = False
    """The float network's weights were loaded, if perhaps without its classifier."""
    proposed_keep: tuple[str, ...] | None = None
    """Rules for `keep` that a budget asked for; None until they are known."""
    outcomes: dict[str, str] = field(default_factory=dict)
    """Of every step that has ended, see `CompressStep`."""
    export: ExportRecord | None = None
    """What was packed."""
    evaluations: dict[str, Evaluation] = field(default_factory=dict)
    """By form: `float`, `binary`, `packed`."""
    agreement: Agreement | None = None
    """Packed against trained, on every image of the validation split."""
    timing: Timing | None = None
    """Of one image."""
    seconds: float = 0.0
    """That it took in all, interruptions left out."""
    beside_bytes: int = 0
    """Of the packed folder, that a budget of bytes leaves for what describes the tensors."""
