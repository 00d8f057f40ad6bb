"""The float network's training: which of the asked knobs are its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from irbin.compression import trained
from irbin.compression.request import Work
from irbin.compression.watcher import NOBODY
from irbin.recipes.request import asked
from irbin.records.compression import Compression
from irbin.records.options import DataOptions
from irbin.records.plan import PlanOptions
from irbin.records.training import RunRecord


@pytest.mark.parametrize(
    ("begins_trained", "lr"), [(False, {}), (True, {"lr": trained.LR_OF_TRAINED})]
)
def test_a_trained_backbone_is_trained_gently(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begins_trained: bool, lr: dict[str, float]
) -> None:
    calls: list[dict[str, Any]] = []

    def finetune(source: object, out: Path, **given: Any) -> RunRecord:
        calls.append({"source": source, "out": out, **given})
        return RunRecord(str(out), (), 1, 61.5, interrupted=False)

    monkeypatch.setattr(trained, "finetune", finetune)
    data = DataOptions(data_dir="d")
    overrides = {"epochs": 3, "seed": 7, "t_max": 2.0, "lr": 0.5, "distill": False}
    request = asked("net", overrides=overrides, data=data)
    record = Compression(str(tmp_path), {}, True, begins_trained)
    work = Work(tmp_path, request, data, PlanOptions(), None, "cpu", NOBODY, record)
    assert trained.train_float(work) == "top-1 61.50 % in epoch 2"
    (call,) = calls
    assert (call["source"], call["out"]) == ("net", tmp_path / "float")
    assert (call["recipe"], call["resume"]) == ("float", False)
    assert call["overrides"] == {"epochs": 3, "seed": 7, **lr}


def test_a_run_that_was_stopped_stops_the_whole() -> None:
    with pytest.raises(KeyboardInterrupt):
        trained._outcome(RunRecord("r", (), -1, 0.0, interrupted=True))
