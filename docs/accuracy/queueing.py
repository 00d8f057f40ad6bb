"""Around the runs: one queue a folder, its log, its end, several at a time, how far each is."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType, TracebackType

from experiments import Standing, Task, standing, waits_for  # isort: skip

LOCK = "queue.lock"


class BusyError(Exception):
    """Another queue works on the folder."""


@contextmanager
def locked(runs: Path, held: bool = False) -> Iterator[int]:
    """Within, no other queue works on the folder; the file descriptor that says so.

    The system takes the lock away with the last process that has it, however it ends.

    Args:
        runs: the folder.
        held: whoever started this process has the lock, and passed it on.

    Raises:
        BusyError: another queue works on it.
    """
    if held:
        yield -1
        return
    with (runs / LOCK).open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(
                f"expected a folder of runs that no queue works on, got {runs}: process "
                f"{_holder(runs)} does; end it, or wait"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield file.fileno()


def worker(runs: Path) -> int | None:
    """The process whose queue works on the folder; None if there is none."""
    try:
        with (runs / LOCK).open(encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return None
    except BlockingIOError:
        return _holder(runs)
    return None


def _holder(runs: Path) -> int:
    text = (runs / LOCK).read_text(encoding="utf-8").strip()
    return int(text) if text.isdigit() else 0


class Log:
    """Lines with their time, on the screen and at the end of a file.

    A screen that is gone and a disk that is full end no run: what cannot be written is left out.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, line: str) -> None:
        """Writes one."""
        text = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {line}"
        with suppress(OSError):
            print(text, flush=True)
        with suppress(OSError), self._path.open("a", encoding="utf-8") as file:
            file.write(f"{text}\n")


class Ender:
    """Within, Ctrl-C and SIGTERM raise KeyboardInterrupt, and none is lost.

    Training has handlers of its own, which end it after a step; one that comes after its last step
    would end nothing. So all signals also go through a pipe, and `check` looks into it.
    """

    def __enter__(self) -> Ender:
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._theirs.setblocking(False)
        kinds = (signal.SIGINT, signal.SIGTERM)
        self._before = {kind: signal.signal(kind, self._handle) for kind in kinds}
        self._fd = signal.set_wakeup_fd(self._theirs.fileno())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        signal.set_wakeup_fd(self._fd)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._ours.close()
        self._theirs.close()

    @staticmethod
    def _handle(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    def check(self) -> None:
        """Raises KeyboardInterrupt if a signal came."""
        try:
            came = self._ours.recv(64)
        except BlockingIOError:
            return
        if {signal.SIGINT, signal.SIGTERM} & set(came):
            raise KeyboardInterrupt


def side_by_side(
    chosen: Sequence[Task], runs: Path, log: Log, lock: int, n_at_once: int, words: Sequence[str]
) -> int:
    """Several runs at a time, a process each, none before what it starts from; the exit code.

    Args:
        chosen: in the order in which they are to be begun.
        runs: the folder.
        log: where to.
        lock: file descriptor of the folder's lock; it holds as long as any of the processes lives.
        n_at_once: processes.
        words: what each of them is told besides its run.
    """
    waiting = [task for task in chosen if standing(task, runs).state != "finished"]
    at_work: dict[Task, subprocess.Popen[bytes]] = {}
    n_failed = 0
    with Ender() as ender:
        try:
            while waiting or at_work:
                open_ = {task.experiment.name for task in (*waiting, *at_work)}
                ready = [task for task in waiting if not open_ & set(waits_for(task))]
                for task in ready[: n_at_once - len(at_work)]:
                    waiting.remove(task)
                    at_work[task] = _started(task, lock, words)
                for task in [t for t, process in at_work.items() if process.poll() is not None]:
                    n_failed += at_work.pop(task).returncode != 0
                time.sleep(0.2)
                ender.check()
        except KeyboardInterrupt:
            for process in at_work.values():
                process.send_signal(signal.SIGTERM)
            for process in at_work.values():
                process.wait()
            log("asked to end: what was begun is saved, the same command goes on")
            return 128 + signal.SIGINT
    log("nothing left to do" if not n_failed else f"{n_failed} not finished")
    return 1 if n_failed else 0


def _started(task: Task, lock: int, words: Sequence[str]) -> subprocess.Popen[bytes]:
    """A process that does one run; in a session of its own, where a terminal's Ctrl-C ends none."""
    program = [sys.executable, str(Path(__file__).with_name("run.py")), *words]
    line = [*program, "--lock-held", "--only", task.name]
    return subprocess.Popen(line, pass_fds=(lock,), start_new_session=True)


HEADS = ("", "run", "state", "epochs", "top-1 %", "hours", "left")


def status(chosen: Sequence[Task], runs: Path) -> str:
    """A table of where each run stands, and what is left in hours.

    Args:
        chosen: in order.
        runs: the folder.
    """
    rows, left, n_unknown, n_expected = [HEADS], 0.0, 0, 0
    reasons = []
    for number, task in enumerate(chosen, 1):
        found, state = standing(task, runs), ""
        failed = runs / f"{task.name}.failed"
        if found.state != "finished" and failed.exists():
            state = "failed"
            reasons.append(f"{task.name}: {failed.read_text(encoding='utf-8').splitlines()[-1]}")
        rows.append((str(number), task.name, state or found.state, *_cells(found)))
        left += found.hours_left or 0.0
        n_unknown += found.hours_left is None
        n_expected += not found.is_measured and found.hours_left is not None
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADS))]
    lines = ["  ".join(_aligned(row, widths)).rstrip() for row in rows]
    process = worker(runs)
    at_work = "no queue is at work" if process is None else f"process {process} is at work"
    total = f"{at_work} on {runs}; {left:.1f} hours left"
    if n_expected:
        total += f", those of {n_expected} runs (~) as expected"
    if n_unknown:
        total += f", and {n_unknown} runs of unknown length"
    return "\n".join([*lines, "", *reasons, total])


def _cells(found: Standing) -> tuple[str, str, str, str]:
    top1 = "–" if found.top1 is None else f"{found.top1:.2f}"
    hours = f"{found.hours:.1f}" if found.n_done else "–"
    left = "?" if found.hours_left is None else f"{found.hours_left:.1f}"
    if found.hours_left is not None and not found.is_measured:
        left = f"~{left}"
    return f"{found.n_done}/{found.n_epochs}", top1, hours, left


def _aligned(row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    """Words to the left, numbers to the right."""
    for column, (cell, width) in enumerate(zip(row, widths, strict=True)):
        yield cell.ljust(width) if column in (1, 2) else cell.rjust(width)
