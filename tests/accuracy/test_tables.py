"""What is taken over from runs: finished ones, with the network that they started from."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import yaml

from tests.accuracy.conftest import program, saved


def finished(runs: Path, name: str, source: str, n_done: int = 2) -> Path:
    """A run folder with all that a row of `results.csv` is made of."""
    out = saved(runs, name, n_done)
    args = {
        "recipe": {"epochs": 2, "cooldown_epochs": 0},
        "data": {"batch_size": 10},
        "source": {"spec": source},
        "threads": 1,
        "hardware": {"processor": "P"},
        "started": "2026-01-02T03:04:05+00:00",
        "git": {"revision": "f" * 40},
        "versions": {"torch": "2"},
    }
    (out / "args.yaml").write_text(yaml.safe_dump(args))
    # written before the weights, so it may be ahead of them
    (out / "run.json").write_text(json.dumps({"epochs": 2, "last_top1": 61.5, "seconds": 720}))
    (out / "summary.csv").write_text("epoch,eval_top1\n0,nan\n1,61.5\n")
    return out


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tables = program("tables")
    monkeypatch.setattr(tables, "RESULTS", tmp_path / "results.csv")
    monkeypatch.setattr(tables, "CURVES", tmp_path / "curves.csv")
    return tmp_path / "results.csv"


def test_finished_runs_are_taken_over_and_say_what_they_started_from(
    tiny: object, runs: Path, results: Path
) -> None:
    finished(runs, "float-1", "paper:resnet20")
    finished(runs, "bits-7", str(runs / "elsewhere" / "last"))
    finished(runs, "other-1", "paper:resnet20", n_done=1)
    program("tables").collect(runs, None)
    rows = list(csv.DictReader(results.read_text().splitlines()))
    assert [(row["experiment"], row["source"]) for row in rows] == [
        ("float", "paper:resnet20"),
        ("bits", "elsewhere"),
    ]
    assert (rows[0]["top1"], rows[0]["hours"], rows[0]["git"]) == ("61.50", "0.20", "f" * 10)
    points = list(csv.DictReader((results.parent / "curves.csv").read_text().splitlines()))
    assert [(p["experiment"], p["epoch"], p["top1"]) for p in points] == [
        ("float", "1", "61.5"),
        ("bits", "1", "61.5"),
    ]


def test_rows_of_runs_that_are_not_at_hand_stay(
    tiny: object, runs: Path, results: Path, tmp_path: Path
) -> None:
    finished(runs, "float-1", "zoo:resnet20-cifar10-float")
    program("tables").collect(runs, None)
    before = results.read_text()
    (tmp_path / "empty").mkdir()
    program("tables").collect(tmp_path / "empty", None)
    assert results.read_text() == before
