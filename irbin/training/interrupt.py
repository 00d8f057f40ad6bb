"""Ctrl-C and SIGTERM that wait for the end of a step, so that what is saved is whole.

An exception in the middle of a step would leave some weights updated and others not, and no run
could go on from there as if nothing had happened. A second Ctrl-C does not wait for the step; for
a save that is under way it does, and a third one waits for nothing.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SAME_REQUEST = 1.0
"""Seconds: `torchrun` passes Ctrl-C on to processes that got it from the terminal already."""


class Stop:
    """Whether somebody asked training to end."""

    def __init__(self) -> None:
        self.requested = False
        self._is_saving = self._is_urgent = False

    def request(self) -> None:
        """Asks for it."""
        self.requested = True

    def __call__(self) -> bool:
        """Whether it was asked for."""
        return self.requested

    @contextmanager
    def after_saving(self) -> Iterator[None]:
        """Round a save: a Ctrl-C that does not wait for a step waits until this is written.

        Raises:
            KeyboardInterrupt: on the way out, if one came.
        """
        self._is_saving = True
        try:
            yield
        finally:
            self._is_saving, urgent = False, self._is_urgent
            self._is_urgent = False
        if urgent:
            raise KeyboardInterrupt

    def must_wait(self) -> bool:
        """Whether a Ctrl-C that comes now is to be raised later, by `after_saving`."""
        waits = self._is_saving and not self._is_urgent
        self._is_urgent = self._is_urgent or waits
        return waits


@contextmanager
def held_interrupt() -> Iterator[Stop]:
    """Within, the first Ctrl-C sets the flag it yields and the second raises KeyboardInterrupt.

    SIGTERM, by which schedulers announce that a machine is taken away, counts as a first one
    however often it comes: what does not end by itself gets SIGKILL.

    Outside the main thread, where Python delivers no signals, the flag is only set by `request`.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    latest = -math.inf

    def handle(number: int, _frame: FrameType | None) -> None:
        nonlocal latest
        now = time.monotonic()
        again = number == signal.SIGINT and stop.requested and now - latest > SAME_REQUEST
        if again and not stop.must_wait():
            raise KeyboardInterrupt
        if again or not stop.requested:
            latest = now
        stop.request()

    before = {kind: signal.signal(kind, handle) for kind in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
