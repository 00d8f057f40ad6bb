"""Ctrl-C and SIGTERM that wait for the end of a step, so that what is saved is whole.

An exception in the middle of a step would leave some weights updated and others not, and no run
could go on from there as if nothing had happened. A second Ctrl-C does not wait.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """Whether somebody asked training to end."""

    def __init__(self) -> None:
        self.requested = False

    def request(self) -> None:
        """Asks for it."""
        self.requested = True

    def __call__(self) -> bool:
        """Whether it was asked for."""
        return self.requested


@contextmanager
def held_interrupt() -> Iterator[Stop]:
    """Within, the first Ctrl-C sets the flag it yields and the second raises KeyboardInterrupt.

    SIGTERM, by which schedulers announce that a machine is taken away, counts as one.

    Outside the main thread, where Python delivers no signals, the flag is only set by `request`.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(_signal: int, _frame: FrameType | None) -> None:
        if stop.requested:
            raise KeyboardInterrupt
        stop.request()

    before = {kind: signal.signal(kind, handle) for kind in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
