"""Who is told how a run goes: the display, the logs, a user's script."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Self, TypedDict, Unpack

from irbin.errors import UsageError
from irbin.recipes.recipe import FIELD_NAMES
from irbin.records.training import EpochRecord, StepRecord

OnStep = Callable[[StepRecord], None]
OnEpoch = Callable[[EpochRecord], None]
Say = Callable[[str], None]
Stage = Callable[[str, int, int], None]
"""Told what is being prepared, how much of it is done, and how much there is (0: not counted)."""


def ignore(*_: object) -> None:
    """What hears nothing."""


class Told(TypedDict, total=False):
    """The fields of `Listener` as keyword arguments; None hears nothing."""

    report: OnStep | None
    on_epoch: OnEpoch | None
    say: Say | None
    stage: Stage | None


@dataclass(frozen=True)
class Listener:
    """What a run tells, and to whom. Made by `verbs`, read by `training.loop`."""

    report: OnStep = ignore
    """Told where training stands every `log_interval` steps, in the first process."""
    on_epoch: OnEpoch = ignore
    """Told of every epoch, when everything is saved, in the first process."""
    say: Say = ignore
    """Told, in a line each, how the run is computed, in the first process."""
    stage: Stage = ignore
    """Told of what takes time before the first step."""

    @classmethod
    def of(cls, **told: Unpack[Told]) -> Self:
        """Of keyword arguments.

        Raises:
            UsageError: one that is no field.
        """
        known = [field.name for field in fields(cls)]
        for name in told:
            if name not in known:
                listed = ", ".join(f"`{one}`" for one in known)
                knob = f"; the recipe's go into `overrides`: {{{name!r}: …}}"
                raise UsageError(
                    f"expected {listed} to tell, got `{name}`{knob if name in FIELD_NAMES else ''}"
                )
        heard: dict[str, Any] = {name: hears for name, hears in told.items() if hears is not None}
        return cls(**heard)


NOBODY = Listener()
