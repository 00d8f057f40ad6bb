from __future__ import annotations

import importlib.util
import logging
import math
import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from irbin.errors import UsageError
from irbin.records.training import EpochRecord, StepRecord
from irbin.runs.logs import LOGS, Log, open_log, told_in_turn

STEP = StepRecord(0, 3, 1, 2, 1000.0, 1.5, 50.0, 0.1, 0.316, 3.16, 10.0)
EPOCH = EpochRecord(0, 1.5, 50.0, 1.25, 60.0, 90.0, 0.1, 0.316, 3.16, 1000.0, 12.0)
STEPS = {
    "step/loss",
    "step/top1",
    "step/lr",
    "step/t",
    "step/k",
    "step/images_per_second",
    "step/waiting",
}
EPOCHS = {
    f"epoch/{name}"
    for name in (
        "train_loss",
        "train_top1",
        "eval_loss",
        "eval_top1",
        "eval_top5",
        "lr",
        "t",
        "k",
        "images_per_second",
        "seconds",
        "steps",
    )
}


def train(log: Log, first: int, last: int, loss: float = 0.0) -> None:
    """Epochs `first` to `last` of two steps each."""
    for epoch in range(first, last + 1):
        for step in (1, 2):
            log.step(replace(STEP, epoch=epoch, step=step, loss=loss))
        log.epoch(replace(EPOCH, epoch=epoch, eval_loss=loss))


class Notebook(Log):
    """Remembers what it is told, or fails."""

    name = "notebook"

    def __init__(self, out: Path = Path(), failing: str = "") -> None:
        super().__init__(out)
        self.lines: list[tuple[str, int, Mapping[str, float]]] = []
        self.code: int | None = None
        self.failing = failing

    def _add(self, group: str, count: int, figures: Mapping[str, float]) -> None:
        if group == self.failing:
            raise OSError(28, "No space\nleft on device")
        self.lines.append((group, count, figures))

    def _end(self, code: int) -> None:
        if self.failing == "end":
            raise ConnectionError("gone")
        self.code = code


def test_steps_and_epochs_count_from_one() -> None:
    with Notebook() as log:
        train(log, 0, 1)
    assert [(group, count) for group, count, _ in log.lines] == [
        ("step", 1),
        ("step", 2),
        ("epoch", 1),
        ("step", 3),
        ("step", 4),
        ("epoch", 2),
    ]
    assert log.code == 0


def test_what_was_not_measured_is_left_out() -> None:
    log = Notebook()
    log.step(replace(STEP, t=math.nan, k=math.inf))
    log.epoch(EPOCH)
    assert set(log.lines[0][2]) == {"loss", "top1", "lr", "images_per_second", "waiting"}
    assert {f"epoch/{name}" for name in log.lines[1][2]} == EPOCHS


@pytest.mark.parametrize(
    ("failing", "n_lines", "message"),
    [
        ("epoch", 2, "OSError: [Errno 28] No space left on device"),
        ("end", 9, "ConnectionError: gone"),
    ],
)
def test_a_log_that_fails_is_given_up_with_one_warning(
    caplog: pytest.LogCaptureFixture, failing: str, n_lines: int, message: str
) -> None:
    with Notebook(failing=failing) as log:
        train(log, 0, 2)
    assert len(log.lines) == n_lines
    assert log.code is None
    assert caplog.messages == [
        f"`log=['notebook']` failed and is given up, training goes on: {message}"
    ]
    assert caplog.records[0].levelno == logging.WARNING


def test_a_log_is_told_that_training_failed_and_ctrl_c_passes() -> None:
    log = Notebook()
    with pytest.raises(ZeroDivisionError), log:
        raise ZeroDivisionError
    assert log.code == 1

    class Stopped(Notebook):
        def _add(self, group: str, count: int, figures: Mapping[str, float]) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Stopped().step(STEP)


def test_listeners_are_told_in_turn() -> None:
    heard: list[str] = []
    tell = told_in_turn(*(lambda word, n=n: heard.append(f"{word}{n}") for n in (1, 2)))
    tell("a")
    assert heard == ["a1", "a2"]


def test_a_kind_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        open_log("mlflow", tmp_path)
    assert str(error.value) == "`log=`: expected tensorboard or wandb, got `mlflow`"


@pytest.mark.parametrize("kind", list(LOGS))
@pytest.mark.parametrize("spec", [None, ModuleSpec("x", None)], ids=["missing", "a folder"])
def test_a_missing_package_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, spec: ModuleSpec | None
) -> None:
    monkeypatch.setattr("irbin.runs.logs.find_spec", lambda name: spec)
    with pytest.raises(UsageError) as error:
        open_log(kind, tmp_path)
    assert str(error.value) == (
        f"`log={[kind]}` needs {kind}, which is not installed: pip install 'irbin[{kind}]'"
    )


def test_nothing_is_written_before_the_first_record(tmp_path: Path) -> None:
    with open_log("tensorboard", tmp_path / "run"):
        pass
    assert list(tmp_path.iterdir()) == []


class TestTensorBoard:
    @pytest.fixture
    def read(self, tmp_path: Path) -> Any:
        """What TensorBoard shows: by tag, (count, value) in order."""
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        def read(group: str) -> dict[str, list[tuple[int, float]]]:
            found = EventAccumulator(str(tmp_path / "tensorboard" / group))
            found.Reload()
            tags = found.Tags()["scalars"]
            return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in tags}

        return read

    def test_every_figure_is_shown(self, tmp_path: Path, read: Any) -> None:
        with open_log("tensorboard", tmp_path) as log:
            train(log, 0, 1, loss=0.5)
        steps, epochs = read("steps"), read("epochs")
        assert (set(steps), set(epochs)) == (STEPS, EPOCHS)
        assert steps["step/loss"] == [(1, 0.5), (2, 0.5), (3, 0.5), (4, 0.5)]
        assert epochs["epoch/eval_loss"] == [(1, 0.5), (2, 0.5)]

    def test_a_resumed_run_takes_back_what_it_does_again(self, tmp_path: Path, read: Any) -> None:
        with open_log("tensorboard", tmp_path) as log:
            train(log, 0, 2, loss=1.0)
        with open_log("tensorboard", tmp_path) as log:
            train(log, 1, 2, loss=2.0)
        assert read("steps")["step/loss"] == [
            (1, 1.0),
            (2, 1.0),
            (3, 2.0),
            (4, 2.0),
            (5, 2.0),
            (6, 2.0),
        ]
        assert read("epochs")["epoch/eval_loss"] == [(1, 1.0), (2, 2.0), (3, 2.0)]

    def test_a_folder_that_cannot_be_made_ends_no_training(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "tensorboard").touch()
        with open_log("tensorboard", tmp_path) as log:
            train(log, 0, 1)
        assert len(caplog.messages) == 1
        assert caplog.messages[0].startswith("`log=['tensorboard']` failed and is given up")


class FakeRun:
    """A run of Weights & Biases that remembers."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.metrics: dict[str, str] = {}
        self.rows: list[dict[str, float]] = []
        self.code: int | None = None

    def define_metric(self, name: str, step_metric: str) -> None:
        self.metrics[name] = step_metric

    def log(self, row: dict[str, float]) -> None:
        self.rows.append(row)

    def finish(self, exit_code: int) -> None:
        self.code = exit_code


class FakeWandb(ModuleType):
    """As much of the package as is used."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.mode, self.account = "online", True
        self.runs: list[FakeRun] = []

    def setup(self) -> Any:
        return SimpleNamespace(settings=SimpleNamespace(mode=self.mode))

    def login(self, prompt: bool, verify: bool) -> bool:
        assert not prompt
        assert not verify
        return self.account

    def Settings(self, **settings: Any) -> Any:  # noqa: N802  # its name there
        return settings

    def init(self, **settings: Any) -> FakeRun:
        self.runs.append(FakeRun(**settings))
        return self.runs[-1]


class TestWandb:
    @pytest.fixture
    def fake(self, monkeypatch: pytest.MonkeyPatch) -> FakeWandb:
        module = FakeWandb()
        monkeypatch.setitem(sys.modules, "wandb", module)
        monkeypatch.setattr(
            "irbin.runs.logs.find_spec", lambda name: ModuleSpec(name, None, origin="there")
        )
        return module

    def test_a_resumed_run_is_the_same_one(self, tmp_path: Path, fake: FakeWandb) -> None:
        (tmp_path / "args.yaml").write_text("recipe: {lr: 0.1}\n")
        for _ in range(2):
            with open_log("wandb", tmp_path) as log:
                train(log, 0, 0)
        first, second = fake.runs
        assert first.settings == second.settings
        assert first.settings["id"] == (tmp_path / "wandb-id").read_text()
        assert len(first.settings["id"]) == 8
        assert first.settings["resume"] == "allow"
        assert first.settings["dir"] == str(tmp_path)
        assert first.settings["name"] == tmp_path.name
        assert first.settings["config"] == {"recipe": {"lr": 0.1}}

    def test_every_figure_is_sent_over_its_own_count(self, tmp_path: Path, fake: FakeWandb) -> None:
        with open_log("wandb", tmp_path) as log:
            train(log, 0, 0)
        (run,) = fake.runs
        assert run.metrics == {"step/*": "step", "epoch/*": "epoch"}
        assert [row.get("step", row.get("epoch")) for row in run.rows] == [1, 2, 1]
        assert (set(run.rows[0]), set(run.rows[2])) == (STEPS | {"step"}, EPOCHS | {"epoch"})
        assert run.code == 0
        assert run.settings["config"] == {}

    def test_without_an_account_nothing_is_asked(self, tmp_path: Path, fake: FakeWandb) -> None:
        fake.account = False
        with pytest.raises(UsageError) as error:
            open_log("wandb", tmp_path)
        assert str(error.value) == (
            "`log=['wandb']` has no account: `wandb login`, or WANDB_MODE=offline"
        )
        fake.mode = "offline"
        assert open_log("wandb", tmp_path)

    @pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed")
    @pytest.mark.filterwarnings("default")  # its own
    def test_offline_it_writes_into_the_run_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setenv("WANDB_MODE", "offline")
        for _ in range(2):
            with open_log("wandb", tmp_path) as log:
                train(log, 0, 1)
        assert caplog.messages == []
        identity = (tmp_path / "wandb-id").read_text()
        assert list((tmp_path / "wandb").glob(f"offline-run-*/run-{identity}.wandb"))
