"""Who is told how a run goes: the display, the logs, a user's script."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from irbin.records.training import EpochRecord, StepRecord

Report = Callable[[StepRecord], None]
OnEpoch = Callable[[EpochRecord], None]
Say = Callable[[str], None]
Stage = Callable[[str, int, int], None]
"""Told what is being prepared, how much of it is done, and how much there is (0: not counted)."""


def ignore(*_: object) -> None:
    """What hears nothing."""


@dataclass(frozen=True)
class Listener:
    """What a run tells, and to whom. Made by `verbs`, read by `training.loop`."""

    report: Report = ignore
    """Told where training stands every `log_interval` steps, in the first process."""
    on_epoch: OnEpoch = ignore
    """Told of every epoch, when everything is saved, in the first process."""
    say: Say = ignore
    """Told, in a line each, how the run is computed, in the first process."""
    stage: Stage = ignore
    """Told of what takes time before the first step."""


NOBODY = Listener()
