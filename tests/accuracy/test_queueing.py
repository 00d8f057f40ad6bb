"""One queue a folder, signals that are not lost, the order of runs side by side, the table."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from tests.accuracy.conftest import PROGRAMS, program, saved

HOLD = (
    "import sys, pathlib; sys.path.insert(0, {programs!r}); import queueing\n"
    "with queueing.locked(pathlib.Path({runs!r})): print('held', flush=True); sys.stdin.read()"
)


def holding(runs: Path) -> subprocess.Popen[str]:
    """A process that has the lock of a folder."""
    script = HOLD.format(programs=str(PROGRAMS), runs=str(runs))
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


class TestLock:
    @pytest.mark.slow
    def test_a_second_queue_is_refused_until_the_first_is_killed(self, runs: Path) -> None:
        queueing = program("queueing")
        with holding(runs) as process:
            expected = (
                f"expected a folder of runs that no queue works on, got {runs}: process "
                f"{process.pid} does; end it, or wait"
            )
            with pytest.raises(queueing.BusyError) as refused, queueing.locked(runs):
                pass
            assert str(refused.value) == expected
            assert queueing.worker(runs) == process.pid
            process.kill()
        with queueing.locked(runs):
            pass

    def test_a_file_that_a_dead_process_left_locks_nothing(self, runs: Path) -> None:
        (runs / "queue.lock").write_text("1\n")
        queueing = program("queueing")
        assert queueing.worker(runs) is None
        with queueing.locked(runs):
            assert (runs / "queue.lock").read_text() == f"{os.getpid()}\n"

    def test_nobody_works_where_nobody_ever_did(self, runs: Path) -> None:
        assert program("queueing").worker(runs) is None

    def test_whoever_was_handed_the_lock_keeps_it(self, runs: Path) -> None:
        queueing = program("queueing")
        with queueing.locked(runs) as lock:
            wait = [sys.executable, "-c", "import sys; sys.stdin.read()"]
            child = subprocess.Popen(wait, stdin=subprocess.PIPE, pass_fds=(lock,))
        with child:
            with pytest.raises(queueing.BusyError), queueing.locked(runs):
                pass
            child.kill()
        with queueing.locked(runs):
            pass


def test_a_log_outlives_its_screen_and_its_disk(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = program("queueing").Log(runs / "queue.log")
    log("one")
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", buffering=1) as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        log("two")
        monkeypatch.undo()
        with suppress(BrokenPipeError):
            closed.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)
    lines = (runs / "queue.log").read_text().splitlines()
    assert [line[20:] for line in lines] == ["one", "two"]
    program("queueing").Log(runs)("a folder is no file")


class TestEnder:
    @pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_raises(self, kind: signal.Signals) -> None:
        with pytest.raises(KeyboardInterrupt), program("queueing").Ender():
            signal.raise_signal(kind)

    def test_a_signal_that_another_handler_took_is_found(self) -> None:
        with program("queueing").Ender() as ender:
            ender.check()
            signal.signal(signal.SIGTERM, lambda *_: None)
            signal.raise_signal(signal.SIGTERM)
            with pytest.raises(KeyboardInterrupt):
                ender.check()
            ender.check()

    def test_everything_is_as_before_afterwards(self) -> None:
        before = signal.getsignal(signal.SIGTERM)
        with program("queueing").Ender():
            pass
        assert signal.getsignal(signal.SIGTERM) is before
        assert signal.set_wakeup_fd(-1) == -1


class TestSideBySide:
    @pytest.fixture
    def started(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Runs that were started; each is a process that ends at once."""
        queueing, names = program("queueing"), []

        def start(task: object, lock: int, words: Sequence[str]) -> subprocess.Popen[bytes]:
            names.append(task.name)
            return subprocess.Popen(["true" if "bad" not in words else "false"])

        monkeypatch.setattr(queueing, "_started", start)
        return names

    @pytest.fixture
    def side_by_side(self, runs: Path) -> Callable[..., int]:
        queueing, chosen = program("queueing"), program("experiments").tasks(["queue"])
        log = queueing.Log(runs / "queue.log")

        def go(n_at_once: int, words: Sequence[str] = ()) -> int:
            return queueing.side_by_side(chosen, runs, log, -1, n_at_once, words)

        return go

    @pytest.mark.slow
    @pytest.mark.parametrize("n_at_once", [1, 2, 9])
    def test_none_is_started_before_what_it_starts_from(
        self, n_at_once: int, tiny: object, started: list[str], side_by_side: Callable[..., int]
    ) -> None:
        assert side_by_side(n_at_once) == 0
        assert sorted(started) == ["bits-7", "float-1", "other-1", "other-2"]
        assert started.index("float-1") < started.index("bits-7")

    @pytest.mark.slow
    def test_finished_ones_are_left_alone(
        self, tiny: object, runs: Path, started: list[str], side_by_side: Callable[..., int]
    ) -> None:
        for name in ("float-1", "other-1", "other-2"):
            saved(runs, name, 2)
        assert side_by_side(2) == 0
        assert started == ["bits-7"]

    @pytest.mark.slow
    def test_one_that_fails_stops_no_other(
        self, tiny: object, runs: Path, started: list[str], side_by_side: Callable[..., int]
    ) -> None:
        assert side_by_side(2, ["bad"]) == 1
        assert len(started) == 4
        assert (runs / "queue.log").read_text().endswith(" 4 not finished\n")


def test_the_status_is_a_table(tiny: object, runs: Path) -> None:
    saved(runs, "float-1", 2, seconds=3600.0, top1=91.25)
    saved(runs, "other-1", 1, seconds=5400.0)
    (runs / "other-2.failed").write_text("Traceback\nTrainingError: the loss is nan\n")
    text = program("queueing").status(program("experiments").tasks(["queue"]), runs)
    assert text.splitlines() == [
        "   run      state     epochs  top-1 %  hours  left",
        "1  float-1  finished     2/2    91.25    2.0   0.0",
        "2  other-1  begun        1/2    50.00    1.5   1.5",
        "3  other-2  failed       0/2        –      –     ?",
        "4  bits-7   new          0/2        –      –  ~1.5",
        "",
        "other-2: TrainingError: the loss is nan",
        f"no queue is at work on {runs}; 3.0 hours left, those of 1 runs (~) as expected, "
        "and 1 runs of unknown length",
    ]


@pytest.mark.slow
def test_the_status_says_who_is_at_work(tiny: object, runs: Path) -> None:
    with holding(runs) as process:
        text = program("queueing").status([], runs)
        process.kill()
    assert f"process {process.pid} is at work on {runs}; 0.0 hours left" in text
