"""A queue of tiny trainings: in order, left alone, ended anywhere, begun again, side by side."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.accuracy.conftest import TINY, program, saved, write_experiments

Queue = Callable[..., int]


@pytest.fixture
def queue(cifar: Path, runs: Path) -> Queue:
    """The program's exit code, run here, at the priority that the tests have."""

    def go(*words: str, runs: Path = runs) -> int:
        folders = ["--data-dir", str(cifar), "--runs", str(runs)]
        return program("run").main([*words, *folders, "--nice", "0"])

    return go


def lines(runs: Path) -> list[str]:
    """Of the log, without their time."""
    return [line[20:] for line in (runs / "queue.log").read_text().splitlines()]


def weights(runs: Path, name: str) -> bytes:
    return (runs / name / "last" / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_a_queue_runs_in_order_and_leaves_alone_what_is_finished(
    tiny: object, runs: Path, queue: Queue
) -> None:
    assert queue("float", "binary") == 0
    said = lines(runs)
    finished = [line for line in said if line.endswith("finished")]
    assert finished == ["float-1: finished", "bits-7: finished"]
    assert said.index(f"bits-7: converts {runs / 'float-1' / 'last'}") > said.index(finished[0])
    assert any(line.startswith("bits-7: epoch 1 of 2, step 1 of 3, loss ") for line in said)
    args = yaml.safe_load((runs / "bits-7" / "args.yaml").read_text())
    assert args["source"]["spec"] == str(runs / "float-1" / "last")
    assert args["command"]["teacher"] == str(runs / "float-1" / "last")
    before = [(path, path.stat().st_mtime_ns) for path in sorted(runs.rglob("*.safetensors"))]
    assert queue("float", "binary") == 0
    assert [(path, path.stat().st_mtime_ns) for path, _ in before] == before
    assert lines(runs)[len(said) :] == ["nothing left to do"]


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 5])
def test_a_queue_that_was_ended_goes_on_exactly(
    step: int,
    tiny: object,
    tmp_path: Path,
    runs: Path,
    queue: Queue,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = tmp_path / "whole"
    assert queue("float", runs=whole) == 0
    n_steps = 0

    def end(*_: object) -> None:
        nonlocal n_steps
        n_steps += 1
        if n_steps == step:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(program("run").Heartbeat, "beat", end)
    assert queue("float", "other") == 130
    assert lines(runs)[-1] == "asked to end: what was begun is saved, the same command goes on"
    assert not (runs / "other-1").exists()
    assert queue("float") == 0
    assert weights(runs, "float-1") == weights(whole, "float-1")


@pytest.mark.slow
def test_a_run_that_was_killed_before_its_first_save_begins_again(
    tiny: object, runs: Path, queue: Queue
) -> None:
    (runs / "float-1").mkdir()
    (runs / "float-1" / "args.yaml").write_text("recipe: {}")
    assert queue("float") == 0
    assert lines(runs)[-2] == "float-1: finished"


@pytest.mark.slow
def test_a_run_that_fails_stops_no_other_and_is_tried_again(
    tmp_path: Path, runs: Path, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong: dict[str, Any] = {**TINY, "flat": {**TINY["flat"], "source": "paper:resnet21"}}
    wrong["flat"]["runs"] = {"float": {}, "other": {"source": "paper:resnet20", "seeds": [1]}}
    write_experiments(tmp_path, monkeypatch, wrong)
    assert queue("flat", "bits") == 1
    reason = (runs / "float-1.failed").read_text()
    assert "resnet21" in reason
    assert "Traceback" not in reason
    said = lines(runs)
    assert said[0] == f"float-1: failed: {reason.strip()}"
    assert "other-1: finished" in said
    assert said[-2:] == ["bits-7: left out, it needs a finished float", "3 not finished"]
    write_experiments(tmp_path, monkeypatch, TINY)
    assert queue("float") == 0
    assert not (runs / "float-1.failed").exists()


def test_two_queues_do_not_work_on_one_folder(
    tiny: object, runs: Path, queue: Queue, capsys: pytest.CaptureFixture[str]
) -> None:
    with program("queueing").locked(runs):
        assert queue("float") == 1
    assert f"got {runs}: process {os.getpid()} does" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["--status", "--list"])
def test_looking_starts_nothing(
    word: str, tiny: object, runs: Path, queue: Queue, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(runs, "other-2", 1)
    before = sorted(runs.rglob("*"))
    assert queue(word) == 0
    assert "other" in capsys.readouterr().out
    assert sorted(runs.rglob("*")) == before


@pytest.mark.slow
def test_the_command_for_a_gpu_side_by_side(
    tmp_path: Path, runs: Path, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As docs/accuracy.md has it, on the CPU; each run is a process of its own."""
    flat = {**TINY["flat"], "runs": {"float": {}, "other": {}}, "seeds": [1]}
    write_experiments(tmp_path, monkeypatch, {**TINY, "flat": flat})
    words = ["flat", "bits", "--parallel", "2", "--threads", "1", "--device", "cpu"]
    assert queue(*words) == 0
    said = lines(runs)
    assert {line for line in said if line.endswith("finished")} == {
        "float-1: finished",
        "other-1: finished",
        "bits-7: finished",
    }
    args = yaml.safe_load((runs / "bits-7" / "args.yaml").read_text())
    assert args["threads"] == 1
    assert args["source"]["spec"] == str(runs / "float-1" / "last")


def test_the_session_is_modest_where_it_is_the_queues_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, run = tmp_path / "autogroup", program("run")
    monkeypatch.setattr(os, "getsid", lambda pid: os.getpid() + 1)
    run._be_modest_as_a_group(19, entry)
    assert not entry.exists()
    monkeypatch.setattr(os, "getsid", lambda pid: os.getpid())
    run._be_modest_as_a_group(0, entry)
    assert not entry.exists()
    run._be_modest_as_a_group(19, entry)
    assert entry.read_text() == "19"
    run._be_modest_as_a_group(19, tmp_path / "no such folder" / "autogroup")
