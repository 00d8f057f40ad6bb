from __future__ import annotations

import json
import sys
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from irbin.records.analysis import Analysis, Budget, LayerAnalysis, PathPoint, Proposal
from irbin.records.options import DataOptions, SourceOptions
from irbin.records.plan import PlanOptions

POINTS = (PathPoint(0, 1000, 1e-3, 0.5, 90.0, True), PathPoint(2, 100, 1e-4, 2.5, 20.0, True))
LAYER = LayerAnalysis("layer1", ("layer1",), 0.75, 80, 0.25, 0.01, 900, 1e-4)
RECORD = Analysis("net", "layer", "bytes", PlanOptions(), 10, 5, (LAYER,), POINTS)
PROPOSAL = Proposal(
    Budget("bytes", 500), PlanOptions(keep=("fc2", "layer2")), ("layer2",), ("layer1",), POINTS[1]
)
LINE = ("analyze", "net", "--data-dir", "d", "--device", "cpu")


class FakeAnalysis(ModuleType):
    """`analyze` gives `record` and remembers its keywords."""

    def __init__(self) -> None:
        super().__init__("irbin.analysis.analyze")
        self.record = RECORD
        self.source: Any = None
        self.keywords: dict[str, Any] = {}

    def analyze(self, source: Any, *, report: Any, **kwargs: Any) -> Analysis:
        report(1, 2)
        self.source, self.keywords = source, kwargs
        return self.record


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, as_real) -> FakeAnalysis:
    module = FakeAnalysis()
    module.analyze = as_real("irbin.analysis.analyze")(module.analyze)
    monkeypatch.setitem(sys.modules, "irbin.analysis.analyze", module)
    return module


def test_options_arrive(run, fake) -> None:
    done = run(
        *LINE,
        "--by",
        "block",
        "--samples",
        "7",
        "--calibrate",
        "3",
        "--points",
        "4",
        "--max-bytes",
        "4MB",
        "--bits",
        "1w32a",
    )
    assert done.code == 0
    assert fake.source == "net"
    assert fake.keywords == {
        "data": DataOptions(data_dir="d"),
        "source_options": SourceOptions(),
        "by": "block",
        "samples": 7,
        "calibrate": 3,
        "points": 4,
        "max_bytes": 4_000_000,
        "max_latency": None,
        "max_drop": None,
        "device": "cpu",
        "bits": "1w32a",
    }


def test_tables_are_printed_and_without_a_budget_no_command(run, fake) -> None:
    done = run(*LINE)
    assert "layer1" in done.out
    assert "float network" in done.out
    assert "irbin convert" not in done.out


def test_the_command_repeats_what_was_typed_and_every_keep_rule_once(run, fake) -> None:
    fake.record = replace(RECORD, proposal=PROPOSAL)
    done = run(
        *LINE,
        "--keep",
        "fc2",
        "--binarize",
        "a b",
        "--num-classes",
        "3",
        "--input-size",
        "1",
        "2",
        "3",
        "-b",
        "16",
        "--max-bytes",
        "500",
    )
    assert done.out.splitlines()[-1] == (
        "irbin convert net --num-classes 3 --input-size 1 2 3 --keep fc2 --keep layer2 "
        "--binarize 'a b' --data-dir d --batch-size 16 -o CONVERTED"
    )


def test_json_alone_is_on_standard_output(run, fake) -> None:
    value = json.loads(run(*LINE, "--json", "-").out)
    assert value["layers"][0]["loss_increase"] == 0.25
    assert [point["top1"] for point in value["path"]] == [90.0, 20.0]


@pytest.mark.slow
def test_the_picture_is_written(run, fake, tmp_path) -> None:
    done = run(*LINE, "--plot", str(tmp_path / "front.svg"))
    assert (tmp_path / "front.svg").read_bytes().startswith(b"<?xml")
    assert "wrote" in done.err
    assert run(*LINE, "--plot", str(tmp_path / "front.gif")).code == 2


@pytest.mark.parametrize(
    ("record", "code", "line"),
    [
        (
            replace(RECORD, unmet="`--max-drop`: expected at least 9.00 points, got 1"),
            1,
            "irbin: `--max-drop`: expected at least 9.00 points, got 1",
        ),
        (
            replace(RECORD, interrupted=True, path=POINTS[:1]),
            130,
            "stopped by Ctrl-C; above is what was measured until then",
        ),
        (replace(RECORD, interrupted=True, path=()), 130, "stopped by Ctrl-C"),
        (replace(RECORD, notes=("untrained",)), 0, ""),
    ],
    ids=["unmet", "interrupted", "without a path", "note"],
)
def test_nothing_measured_is_lost(run, fake, tmp_path, record, code: int, line: str) -> None:
    fake.record = record
    done = run(*LINE, "--json", str(tmp_path / "x.json"), "--plot", str(tmp_path / "x.png"))
    assert done.code == code
    assert "layer1" in done.out
    assert json.loads((tmp_path / "x.json").read_text())["layers"]
    assert (tmp_path / "x.png").exists() == bool(record.path)
    assert line in done.err
    assert all(note in done.out for note in record.notes)


def test_a_report_is_checked_before_the_work(run, tmp_path) -> None:
    done = run(*LINE, "--report", str(tmp_path / "no" / "r.html"))
    assert done.code == 2
    assert "does not exist; make it first" in done.err
