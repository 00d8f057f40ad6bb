from __future__ import annotations

import errno
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from irbin.errors import TrainingError
from irbin.processes import Group
from irbin.recipes.recipe import Recipe
from irbin.records.options import DataOptions
from irbin.records.training import EpochRecord
from irbin.rewriting.network import Network
from irbin.runs.listener import Listener
from irbin.training import keeping, prepare
from irbin.training.keeping import Keeper
from irbin.training.loop import finetune
from irbin.training.resume import Progress

MakeNetwork = Callable[..., Network]


@pytest.fixture(params=["model.safetensors", "training.safetensors"])
def disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """A disk that a file of the training state does not fit on while `full` is set."""
    state, write = {"full": False}, Path.write_bytes

    def write_bytes(self: Path, content: bytes) -> int:
        if state["full"] and self.name == request.param and "last.partial" in self.parent.name:
            write(self, content[: len(content) // 2])  # as far as it went
            raise OSError(errno.ENOSPC, "No space left on device", str(self))
        return write(self, content)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    return state


@pytest.mark.slow
def test_a_full_disk_ends_no_run_and_keeps_what_was_there(
    disk: dict[str, bool],
    make_network: MakeNetwork,
    data: DataOptions,
    recipe: Recipe,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    out, seen = tmp_path / "run", []

    def fill(record: EpochRecord) -> None:
        seen.append(json.loads((out / "last/training.json").read_text())["progress"]["epoch"])
        load_file(out / "last/training.safetensors")
        disk["full"] = record.epoch == 0  # full for the second epoch's save only

    with caplog.at_level(logging.WARNING, "irbin"):
        record = finetune(make_network(), data, recipe, out, listener=Listener(on_epoch=fill))
    assert len(record.epochs) == 3
    assert seen == [1, 1, 3]
    told = [r.getMessage() for r in caplog.records if "cannot write" in r.getMessage()]
    assert len(told) == 1
    assert told[0].startswith(f"cannot write last in {out} ([Errno 28] No space left on device")
    assert told[0].endswith("training goes on, and what was there before stays")
    assert sorted(p.name for p in (out / "recent").iterdir()) == ["epoch-1", "epoch-3"]
    assert not (out / "last.partial").exists()


@pytest.mark.slow
def test_an_end_that_could_not_be_saved_is_an_error(
    disk: dict[str, bool],
    make_network: MakeNetwork,
    data: DataOptions,
    recipe: Recipe,
    tmp_path: Path,
) -> None:
    out = tmp_path / "run"

    def fill(record: EpochRecord) -> None:
        disk["full"] = record.epoch == 1

    with pytest.raises(TrainingError, match=r"^the run is over, but its end could not be saved in"):
        finetune(make_network(), data, recipe, out, listener=Listener(on_epoch=fill))
    disk["full"] = False
    record = finetune(make_network(seed=4), data, recipe, out, resume=True)
    assert len(record.epochs) == 3


@pytest.mark.slow
@pytest.mark.parametrize(("n_kept", "left"), [(0, []), (1, [3]), (2, [2, 3]), (9, [1, 2, 3])])
def test_recent_epochs_are_kept(
    n_kept: int,
    left: list[int],
    make_network: MakeNetwork,
    data: DataOptions,
    recipe: Recipe,
    tmp_path: Path,
) -> None:
    out = tmp_path / "run"
    finetune(make_network(), data, replace(recipe, checkpoint_hist=n_kept), out)
    kept = sorted(out.glob("recent/*"))
    assert [path.name for path in kept] == [f"epoch-{epoch}" for epoch in left]
    for path in kept:
        epoch = json.loads((path / "training.json").read_text())["progress"]["epoch"]
        assert path.name == f"epoch-{epoch}"
    if kept:
        newest = (kept[-1] / "model.safetensors").read_bytes()
        assert newest == (out / "last/model.safetensors").read_bytes()


@pytest.mark.slow
def test_a_damaged_last_is_replaced_by_the_newest_epoch_that_is_kept(
    make_network: MakeNetwork,
    data: DataOptions,
    recipe: Recipe,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    out = tmp_path / "run"
    finetune(make_network(), data, recipe, out)
    whole = (out / "last/model.safetensors").read_bytes()
    for folder in (out / "last", out / "recent/epoch-3"):
        (folder / "training.safetensors").unlink()
        (folder / "training.safetensors").write_bytes(b"half")
    with caplog.at_level(logging.WARNING, "irbin"):
        finetune(make_network(seed=3), data, recipe, out, resume=True)
    assert any(
        "going on from" in r.getMessage() and "epoch-2" in r.getMessage() for r in caplog.records
    )
    assert (out / "last/model.safetensors").read_bytes() == whole


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The step that each save of `last/` in this test is made at; 0 at an epoch's end."""
    steps: list[int] = []
    save = keeping.save_last

    def note(run: Any, progress: Any) -> None:
        steps.append(progress.step)
        save(run, progress)

    monkeypatch.setattr(keeping, "save_last", note)
    return steps


@pytest.mark.slow
@pytest.mark.parametrize(
    ("interval", "steps"), [(1, [1, 2, 3, 1, 2, 3]), (2, [2, 2]), (3, [3, 3]), (4, [])]
)
def test_last_is_saved_within_an_epoch_every_recovery_interval(
    interval: int,
    steps: list[int],
    make_network: MakeNetwork,
    data: DataOptions,
    recipe: Recipe,
    tmp_path: Path,
    saved: list[int],
) -> None:
    short = replace(recipe, epochs=2, recovery_interval=interval)
    finetune(make_network(), data, short, tmp_path / "run")
    assert [step for step in saved if step] == steps


def test_last_is_saved_when_long_enough_ago(
    make_network: MakeNetwork,
    data: DataOptions,
    recipe: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    saved: list[int] = []
    monkeypatch.setattr(keeping, "save_last", lambda _run, progress: saved.append(progress.step))
    monkeypatch.setattr(keeping, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(keeping, "keep_recent", lambda *_: None)
    finetune(make_network(), data, replace(recipe, epochs=1), tmp_path / "run")
    assert saved == [1, 2, 3, 0]


class Pair(Group):
    """The first of two processes, alone; what they agree on is what it says."""

    def max(self, tensor: torch.Tensor) -> torch.Tensor:  # as in Group
        return tensor

    sum = share = max  # noqa: A003


@pytest.mark.slow
def test_several_processes_save_at_the_interval_whatever_is_logged(
    make_network: MakeNetwork,
    data: DataOptions,
    recipe: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    saved: list[int],
) -> None:
    monkeypatch.setattr(prepare, "parallel", lambda forward, *_: forward)
    pair = Pair(0, 2)
    short = replace(recipe, epochs=1, log_interval=3, recovery_interval=2, dist_bn="off")
    small = replace(data, batch_size=2)  # 7 steps of two processes
    finetune(make_network(), small, short, tmp_path / "run", group=pair)
    assert [step for step in saved if step] == [2, 4, 6]


def test_the_others_come_to_the_same_steps() -> None:
    run = SimpleNamespace(group=Pair(1, 2), recipe=SimpleNamespace(recovery_interval=2))
    progress = Progress()
    keeper = Keeper(run, progress)
    for progress.step in range(1, 5):
        assert keeper.at_interval() == (progress.step % 2 == 0)
        assert not keeper.is_due()  # the first one writes
    run.recipe.recovery_interval = 0
    assert not keeper.at_interval()
