from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from docs.maintain.zookeeper.history import curve, history
from irbin.errors import SourceError
from irbin.records.json import to_json
from irbin.records.training import EpochRecord
from irbin.runs.tables import read_summary

pytestmark = pytest.mark.slow  # a folder that was trained for them

Change = Callable[[Path, Callable[[dict[str, Any]], None]], None]


def test_history_is_that_of_the_files(runs: Path) -> None:
    first, last = history(runs / "way")
    assert (first.recipe, last.recipe) == ("float", "mine.yaml")
    assert (first.seed, last.seed) == (7, 42)
    assert (last.knobs["lr"], last.epochs) == (0.002, 1)
    assert last.seconds == pytest.approx(read_summary(runs / "way")[0].seconds, abs=0.06)
    assert last.data["batch_size"] == 12
    assert len(last.data["fingerprint"]) == 16
    assert last.machine["device"] == "cpu"
    assert last.machine["threads"] == 1
    assert set(last.versions) >= {"irbin", "torch"}
    assert last.curve.epoch == (1,)


def test_history_holds_no_path_of_the_machine(runs: Path, change: Change) -> None:
    change(runs / "way", lambda args: args["hardware"].update(processor="/proc/cpu"))
    text = json.dumps([to_json(run) for run in history(runs / "way") + history(runs / "step")])
    assert str(runs) not in text
    assert '"/' not in text
    assert " /" not in text


def test_history_needs_an_epoch(runs: Path) -> None:
    (runs / "way" / "summary.csv").unlink()
    with pytest.raises(SourceError, match=r"summary.csv yet"):
        history(runs / "way")


def epoch(n: int, top1: float, loss: float = 1.0) -> EpochRecord:
    return EpochRecord(n, 1.23456, 50.0, loss, top1, 90.0, 0.1, 0.3, 3.0, 1000.0, 12.0)


def test_curve_has_the_evaluated_epochs_alone() -> None:
    found = curve([epoch(0, 10.126), epoch(1, math.nan), epoch(2, 30.0), epoch(3, 40.0, math.inf)])
    assert found.epoch == (1, 3)
    assert found.top1 == (10.13, 30.0)
    assert found.train_loss == (1.2346, 1.2346)


def test_curve_of_nothing() -> None:
    assert curve([]).epoch == ()


def test_images_are_named_as_in_the_commands(runs: Path, change: Change) -> None:
    change(runs / "float", lambda args: args["data"].update(data_dir="/home/me/data/cifar10"))
    (run,) = history(runs / "float")
    assert run.data["data_dir"] == "data/cifar10"
    assert " --data-dir data/cifar10 " in run.commands[0]
