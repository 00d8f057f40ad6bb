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
from typing import Any

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
def held_to_the_end() -> Iterator[None]:
    """Within, what asked training to end stays asked for when training has ended.

    A program that says then where the run stands, and leaves, is not ended by the next SIGTERM:
    schedulers send it to every process, and `torchrun` passes on what it got. Nor is one that says
    by which error training ended: `torchrun` sends SIGTERM to whoever has lost another process.
    """
    global _to_give_back
    outer, _to_give_back = _to_give_back, {}
    try:
        yield
    finally:
        mine, _to_give_back = _to_give_back, outer
        for kind, handler in mine.items():
            signal.signal(kind, handler)


_to_give_back: dict[signal.Signals, Any] | None = None
"""Within `held_to_the_end`, who answered the signals before."""


@contextmanager
def interrupt_after() -> Iterator[None]:
    """Within, Ctrl-C waits for the end of the block: round a library that makes an error of it.

    safetensors, for one, says of a file that was being read that it is damaged.

    Raises:
        KeyboardInterrupt: on the way out, if one came; in place of an error of the block too.
    """
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT) if is_main else None
    if not callable(before):  # another thread, or a process that Ctrl-C does not reach
        yield
        return
    came: list[FrameType | None] = []
    signal.signal(signal.SIGINT, lambda _number, frame: came.append(frame))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        for frame in came:
            before(signal.SIGINT, frame)


@contextmanager
def held_interrupt() -> Iterator[Stop]:
    """Within, the first Ctrl-C sets the flag it yields and the second raises KeyboardInterrupt.

    SIGTERM, by which schedulers announce that a machine is taken away, counts as a first one
    however often it comes: what does not end by itself gets SIGKILL. See `held_to_the_end` for
    what comes later.

    Outside the main thread, where Python delivers no signals, the flag is only set by `request`;
    so it is for a signal that a program round Python answers, which could not be given back.
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

    kinds = [k for k in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(k) is not None]
    before = {kind: signal.signal(kind, handle) for kind in kinds}
    held: set[signal.Signals] = {signal.SIGTERM}  # where an error ends it
    try:
        yield stop
        held = set()
    finally:
        if stop.requested:
            held = set(before)
        for kind, handler in before.items():
            if _to_give_back is not None and kind in held:
                _to_give_back.setdefault(kind, handler)
            else:
                signal.signal(kind, handler)
