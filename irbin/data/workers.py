"""The processes that read images: when they begin, what they ignore, and how their end is told.

A scheduler's SIGTERM and a terminal's Ctrl-C go to all processes of a run, and to some more than
once (`scancel` signals each, `torchrun` passes on what it got). The trainer alone decides what they
mean; what reads images ignores them from before it runs its first line, and ends when the trainer
says so, by SIGKILL where it does not listen, or when there is no trainer any more.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from torch.utils.data import DataLoader
from torch.utils.data._utils import signal_handling

from irbin.errors import LostWorkerError
from irbin.messages import with_class

_TRAINERS = (signal.SIGINT, signal.SIGTERM)
"""Signals that are the trainer's to answer."""


def ignore_stops(_worker: int) -> None:
    """Ignores what asks a run to end: for a `DataLoader`'s `worker_init_fn`."""
    for kind in _TRAINERS:
        signal.signal(kind, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _TRAINERS)  # what this process starts needs them
    parent = multiprocessing.parent_process()
    is_child = multiprocessing.get_start_method() != "forkserver"
    if is_child and parent is not None and os.getppid() != parent.pid:
        os._exit(1)  # torch compares with the parent it finds from here on


def batches_of(loader: DataLoader[Any]) -> Iterator[Any]:
    """A pass over a loader made with `ignore_stops`, whose new processes no stop can end.

    Raises:
        LostWorkerError: a worker ended.
    """
    with _held():
        batches = iter(loader)
    for worker in getattr(batches, "_workers", ()):
        # by which torch, and Python when it ends, end a process that hangs
        worker._popen.terminate = worker._popen.kill
    end = object()
    while True:
        with _waiting():
            batch = next(batches, end)
        if batch is end:
            return
        yield batch


@contextmanager
def _held() -> Iterator[None]:
    """Within, stops wait for this thread, and for the processes begun until they ignore them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _TRAINERS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Deaths:
    """What torch's handler of SIGCHLD has to say, and whether somebody listens."""

    def __init__(self) -> None:
        self.is_listening = False
        self.told: RuntimeError | None = None


_deaths: _Deaths | None = None
"""Within `told_between_batches`."""


@contextmanager
def told_between_batches() -> Iterator[None]:
    """Within, the end of a worker is raised by whoever waits for a batch, and nowhere else.

    torch raises it in whatever line the main thread happens to be, say between the change of the
    weights and the count of the step. Outside the main thread, where that cannot happen, a no-op.
    """
    global _deaths
    if threading.current_thread() is not threading.main_thread() or _deaths is not None:
        yield
        return
    signal_handling._set_SIGCHLD_handler()  # once a process; the first loader would set it within
    before = signal.getsignal(signal.SIGCHLD)
    deaths = _deaths = _Deaths()

    def hear(number: int, frame: FrameType | None) -> None:
        try:
            if callable(before):
                before(number, frame)
        except RuntimeError as error:
            if deaths.is_listening:
                raise
            deaths.told = error

    signal.signal(signal.SIGCHLD, hear)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)
        _deaths = None


@contextmanager
def _waiting() -> Iterator[None]:
    """Within, a batch is waited for.

    Raises:
        LostWorkerError: a worker ended, now or since the last batch.
    """
    deaths = _Deaths() if _deaths is None else _deaths
    try:
        deaths.is_listening = True
        if deaths.told is not None:
            raise deaths.told
        yield
    except (RuntimeError, ConnectionError, EOFError) as error:
        # torch's own, or those of handing over the batch under way
        if isinstance(error, RuntimeError) and "DataLoader worker (pid" not in str(error):
            raise
        deaths.told = None
        raise LostWorkerError(
            f"expected all processes that read images to stay, but one ended: {with_class(error)}"
        ) from error
    finally:
        deaths.is_listening = False
