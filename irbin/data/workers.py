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
from multiprocessing import resource_tracker
from types import FrameType
from typing import Any

from torch.utils.data import DataLoader
from torch.utils.data._utils import signal_handling

from irbin.errors import LostWorkerError
from irbin.messages import with_class

_TRAINERS = (signal.SIGINT, signal.SIGTERM)
"""Signals that are the trainer's to answer."""


def workers_of(n: int) -> dict[str, Any]:
    """Arguments of a `DataLoader` by which `n` processes read, for `batches_of`; none where 0."""
    server = n > 0 and multiprocessing.get_start_method() == "forkserver"
    return {
        "num_workers": n,
        "worker_init_fn": ignore_stops,
        # a server of forks hears what all processes hear, and ends with all that it began
        "multiprocessing_context": "spawn" if server else None,
    }


def ignore_stops(_worker: int) -> None:
    """Ignores what asks a run to end: for a `DataLoader`'s `worker_init_fn`."""
    for kind in _TRAINERS:
        signal.signal(kind, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _TRAINERS)  # what this process starts needs them
    if _has_lost_its_trainer():
        os._exit(1)  # torch compares with the parent it finds from here on


def _has_lost_its_trainer() -> bool:
    trainer = multiprocessing.parent_process()
    if trainer is None:
        return False
    if multiprocessing.get_start_method() == "fork":
        # workers that were begun later hold the pipe by which Python would tell
        return os.getppid() != trainer.pid
    return not trainer.is_alive()  # it need not be the parent: a server or a wrapper may be


def batches_of(loader: DataLoader[Any]) -> Iterator[Any]:
    """A pass over a loader made with `ignore_stops`, whose new processes no stop can end.

    Raises:
        LostWorkerError: a worker ended.
    """
    batches = _begun(loader)
    end = object()
    while True:
        with _waiting():
            batch = next(batches, end)
        if batch is end:
            return
        yield batch


def _begun(loader: DataLoader[Any]) -> Iterator[Any]:
    """A pass whose processes all run, and are ended by SIGKILL alone; where one cannot, none."""
    context = getattr(loader, "multiprocessing_context", None) or multiprocessing
    if context.get_start_method() == "spawn":
        resource_tracker.ensure_running()  # begun on the way it would let stops through again
    before = set(multiprocessing.active_children())
    with _held():
        try:
            batches = iter(loader)
        except BaseException:
            for worker in set(multiprocessing.active_children()) - before:
                worker.kill()  # nobody else would end it, and Python waits for it
            raise
        for worker in getattr(batches, "_workers", ()):
            # by which torch, and Python when it ends, end a process that hangs
            worker._popen.terminate = worker._popen.kill
    return batches


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
    weights and the count of the step. Outside the main thread, and on systems without SIGCHLD,
    where that cannot happen, a no-op.
    """
    global _deaths
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or _deaths is not None or not hasattr(signal, "SIGCHLD"):
        yield
        return
    signal_handling._set_SIGCHLD_handler()  # once a process; the first loader would set it within
    before = signal.getsignal(signal.SIGCHLD)
    if before is None:  # a program round Python answers it, which could not be given back
        yield
        return
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
