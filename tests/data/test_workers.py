from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from irbin.data.workers import batches_of, ignore_stops, told_between_batches, workers_of
from irbin.errors import LostWorkerError

STOPS = (signal.SIGTERM, signal.SIGINT)
ENDED = "expected all processes that read images to stay, but one ended: "


class Numbers(Dataset[int]):
    """Of which each does something to the process that reads it."""

    def __init__(self, n: int, act: Callable[[int], object]) -> None:
        self.n, self.act = n, act

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> int:
        self.act(index)
        return index


def loader(
    act: Callable[[int], object] = lambda _: None,
    *,
    n: int = 16,
    workers: int = 1,
    init: Callable[[int], None] = ignore_stops,
    persistent: bool = False,
) -> DataLoader[Any]:
    return DataLoader(
        Numbers(n, act),
        4,
        num_workers=workers,
        worker_init_fn=init,
        collate_fn=list,
        persistent_workers=persistent,
        multiprocessing_context="fork",
    )


def read(loading: DataLoader[Any]) -> list[int]:
    return [number for batch in batches_of(loading) for number in batch]


def signalled(kind: signal.Signals) -> Callable[[int], None]:
    """Sends the process that reads a number that signal."""
    return lambda _index: os.kill(os.getpid(), kind)


@pytest.mark.parametrize("kind", STOPS)
def test_workers_ignore_stops_however_often_they_come(kind: signal.Signals) -> None:
    assert read(loader(signalled(kind))) == list(range(16))


@pytest.mark.parametrize("kind", STOPS)
def test_from_before_their_first_line_on(kind: signal.Signals) -> None:
    """A worker that is begun has torch's handler first, which ends it, and not yet its own."""

    def early(worker: int) -> None:
        os.kill(os.getpid(), kind)
        ignore_stops(worker)

    assert read(loader(init=early)) == list(range(16))


def test_what_they_start_does_not_have_them_blocked() -> None:
    def look(_index: int) -> None:
        assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())

    assert read(loader(look)) == list(range(16))


@pytest.mark.parametrize("kind", STOPS)
def test_the_trainer_gets_what_came_while_they_were_begun(
    kind: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    got: list[int] = []
    before = signal.signal(kind, lambda number, _frame: got.append(number))
    start = multiprocessing.context.ForkProcess.start

    def begin(self: Any) -> None:
        start(self)
        signal.pthread_kill(threading.get_ident(), kind)  # no other thread's, which holds nothing
        assert not got

    monkeypatch.setattr(multiprocessing.context.ForkProcess, "start", begin)
    try:
        assert read(loader()) == list(range(16))
    finally:
        signal.signal(kind, before)
    assert got == [kind]


def test_one_that_hangs_is_ended_by_the_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.01)

    hangs = multiprocessing.get_context("fork").Event()

    def hang(index: int) -> None:
        if index == 4:
            hangs.set()
            signal.pause()

    loading = loader(hang, persistent=True)
    batches = batches_of(loading)
    assert next(batches) == [0, 1, 2, 3]
    hangs.wait()
    iterator: Any = loading._iterator
    (process,) = iterator._workers
    iterator._shutdown_workers()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def test_one_without_a_trainer_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's watchdog takes whoever is its parent when it begins for the trainer."""
    monkeypatch.setattr(os, "getppid", lambda: 1)
    with pytest.raises(LostWorkerError, match="exited unexpectedly"):
        read(loader())


@pytest.mark.parametrize(("method", "started"), [("forkserver", "spawn"), ("fork", None)])
def test_no_server_of_forks_stands_between(
    method: str, started: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hears a SIGTERM to all, and ends with all workers."""
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda: method)
    loading: DataLoader[Any] = DataLoader(Numbers(1, print), **workers_of(1))
    context = loading.multiprocessing_context
    assert (context and context.get_start_method()) == started
    assert DataLoader(Numbers(1, print), **workers_of(0)).num_workers == 0


def test_a_trainer_behind_a_wrapper_or_a_server_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is started anew may have another parent than the process that asked for it."""
    monkeypatch.setattr(os, "getppid", lambda: 1)
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda: "spawn")
    assert read(loader()) == list(range(16))


def test_where_one_cannot_begin_the_others_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """They ignore what Python would end them by when it ends, and it would wait for ever."""
    start = multiprocessing.context.ForkProcess.start
    begun: list[Any] = []

    def begin(self: Any) -> None:
        if begun:
            raise BlockingIOError("Resource temporarily unavailable")
        begun.append(self)
        start(self)

    monkeypatch.setattr(multiprocessing.context.ForkProcess, "start", begin)
    # what torch has of it has no states yet, which its destructor stumbles over
    iterators = torch.utils.data.dataloader._MultiProcessingDataLoaderIter
    monkeypatch.setattr(iterators, "__del__", lambda _self: None)
    with pytest.raises(BlockingIOError):
        read(loader(workers=2))
    begun[0].join()
    assert begun[0].exitcode == -signal.SIGKILL


def test_one_that_is_ready_at_a_ctrl_c_can_be_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    start = multiprocessing.context.ForkProcess.start

    def begin(self: Any) -> None:
        start(self)
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)  # as above

    monkeypatch.setattr(multiprocessing.context.ForkProcess, "start", begin)
    loading = loader(persistent=True)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # xdist's ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            read(loading)
    finally:
        signal.signal(signal.SIGINT, before)
    iterator: Any = loading._iterator
    (process,) = iterator._workers
    process.terminate()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    iterator._shutdown_workers()


SPAWNING = """
import signal
from multiprocessing import util
from torch.utils.data import DataLoader
from irbin.data.workers import batches_of, ignore_stops

begin = util.spawnv_passfds

def look(path, args, fds):
    if any(b"resource_tracker" in bytes(str(word), "utf-8") for word in args):
        return begin(path, args, fds)
    print(*sorted(kind.name for kind in signal.pthread_sigmask(signal.SIG_BLOCK, ())))
    raise OSError("no more")

util.spawnv_passfds = look
loading = DataLoader(
    [0], num_workers=1, worker_init_fn=ignore_stops, multiprocessing_context="spawn"
)
try:
    next(batches_of(loading))
except OSError:
    pass
"""


@pytest.mark.slow
def test_the_first_that_is_started_anew_has_stops_held() -> None:
    """Python's tracker of resources, begun with it, lets them through when it is done."""
    done = subprocess.run([sys.executable, "-c", SPAWNING], capture_output=True, text=True)
    assert done.stdout.split() == ["SIGINT", "SIGTERM"], done.stderr


def test_one_that_ended_is_told_in_one_line() -> None:
    with pytest.raises(LostWorkerError, match=rf"{ENDED}RuntimeError: DataLoader worker \(pid"):
        read(loader(signalled(signal.SIGKILL), n=64))


class Broken:
    """A loader whose first batch is an error."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __iter__(self) -> Iterator[None]:
        raise self.error
        yield


@pytest.mark.parametrize("error", [ConnectionResetError("reset by peer"), EOFError()])
def test_so_is_one_that_ended_while_it_handed_a_batch_over(error: Exception) -> None:
    broken: Any = Broken(error)
    with pytest.raises(LostWorkerError, match=f"{ENDED}{type(error).__name__}"):
        read(broken)


@pytest.mark.parametrize(
    "text", ["shape mismatch", "Caught RuntimeError in DataLoader worker process 0.\nshape"]
)
def test_other_errors_stay_what_they_are(text: str) -> None:
    broken: Any = Broken(RuntimeError(text))
    with pytest.raises(RuntimeError, match=text.partition(".")[0]):
        read(broken)


def kill_a_worker(loading: DataLoader[Any]) -> None:
    """As the kernel does that has no memory; back when Python's handlers have heard of it."""
    iterator: Any = loading._iterator
    (process,) = iterator._workers
    heard = threading.Event()
    handler: Any = signal.getsignal(signal.SIGCHLD)

    def hear(number: int, frame: Any) -> None:
        heard.set()
        handler(number, frame)

    signal.signal(signal.SIGCHLD, hear)
    try:
        os.kill(process.pid, signal.SIGKILL)
        while not heard.is_set():
            signal.sigtimedwait((), 0.01)
    finally:
        signal.signal(signal.SIGCHLD, handler)


def test_the_end_of_one_is_told_by_the_next_batch_and_by_no_other_line() -> None:
    with told_between_batches():
        loading = loader(n=64, persistent=True)
        batches = batches_of(loading)
        next(batches)
        kill_a_worker(loading)
        with pytest.raises(LostWorkerError, match="is killed by signal: Killed"):
            next(batches)


@pytest.mark.slow
def test_torchs_own_handler_is_back_afterwards() -> None:
    read(loader())  # torch sets it once
    before = signal.getsignal(signal.SIGCHLD)
    with told_between_batches():
        assert signal.getsignal(signal.SIGCHLD) is not before
        with told_between_batches():
            pass
        read(loader())
    assert signal.getsignal(signal.SIGCHLD) is before
    batches = batches_of(loading := loader(n=64, persistent=True))
    next(batches)
    with pytest.raises(RuntimeError, match="is killed by signal: Killed"):
        kill_a_worker(loading)


def test_without_the_signal_there_is_nothing_to_hear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has none, and torch sets no handler there."""
    monkeypatch.setattr("torch.utils.data._utils.signal_handling.IS_WINDOWS", True)
    monkeypatch.delattr(signal, "SIGCHLD")
    with told_between_batches():
        assert list(batches_of(DataLoader([3, 5], collate_fn=list))) == [[3], [5]]


def test_a_handler_of_a_program_round_python_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    read(loader())  # torch sets its own once
    before, told = signal.getsignal(signal.SIGCHLD), signal.getsignal
    monkeypatch.setattr(signal, "getsignal", lambda _kind: None)
    with told_between_batches():
        assert told(signal.SIGCHLD) is before


def test_in_another_thread_nothing_is_changed() -> None:
    before = signal.getsignal(signal.SIGCHLD)
    seen: list[bool] = []

    def work() -> None:
        with told_between_batches():
            seen.append(signal.getsignal(signal.SIGCHLD) is before)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [True]
