"""Who is told how `compress` goes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from irbin.records.compression import CompressStep
from irbin.records.progress import OnProgress
from irbin.runs.listener import Stage, Told, ignore


@dataclass(frozen=True)
class Watcher:
    """What `compress` tells, and to whom: what moves on a screen is opened for each step alone.

    Made by callers, read by `compression`.
    """

    on_step: Callable[[CompressStep], None] = ignore
    """Told of every step as it begins and when it has ended."""
    training: Callable[[], AbstractContextManager[Told]] = lambda: nullcontext(Told())
    """Opened for a training; gives whom `finetune` tells."""
    stages: Callable[[], AbstractContextManager[Stage]] = lambda: nullcontext(ignore)
    """Opened for what goes through stages; gives whom to tell of them."""
    counting: Callable[[str], AbstractContextManager[OnProgress]] = lambda _: nullcontext(ignore)
    """Opened for what counts, with what that is; gives whom to tell how much is done."""


NOBODY = Watcher()
