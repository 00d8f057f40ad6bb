from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import irbin.demo
from irbin.records.options import Preprocessing
from irbin.records.plan import Plan, PlanOptions
from irbin.records.results import Agreement, DemoRecord, Evaluation, ExportRecord
from irbin.records.training import EpochRecord, StepRecord

RECORD = DemoRecord(
    path="irbin-demo",
    evaluations=tuple(
        Evaluation(
            f"irbin-demo/{name}",
            kind,
            1000,
            90.0 - i,
            99.0,
            0.3,
            {},
            1e4,
            1000,
            size,
            Preprocessing(),
        )
        for i, (name, kind, size) in enumerate(
            [("float", "float", 300_000), ("run", "binary", 300_000), ("packed", "packed", 30_000)]
        )
    ),  # type: ignore[arg-type]  # the kinds are literals
    agreement=Agreement(1000, 100.0, 0.001, (), ()),
    export=ExportRecord("irbin-demo/packed", 2, 2, 30_000, 300_000, 12, 80, "float32"),
    seconds=123.4,
)


@pytest.fixture
def calls(monkeypatch, as_real) -> list[dict[str, Any]]:
    seen: list[dict[str, Any]] = []
    fake = ModuleType("irbin.demo.run")

    def run_demo(out: Path, *, on_stage, on_plan, report, on_epoch, **options) -> DemoRecord:
        seen.append({"out": out, **options})
        on_stage("planning [x]")
        on_plan(Plan(PlanOptions(), (), (1, 28, 28), 0, 0, 0))
        report(StepRecord(0, 1, 1, 1, 1.0, 1.0, 1.0, 0.1, 1.0, 1.0, 0.0))
        on_epoch(EpochRecord(0, 1.5, 50.0, 1.25, 60.0, 90.0, 0.1, 0.316, 3.16, 1000.0, 12.0))
        return RECORD

    fake.run_demo = as_real("irbin.demo.run")(run_demo)  # type: ignore[attr-defined]  # a module made here
    monkeypatch.setitem(sys.modules, "irbin.demo.run", fake)
    monkeypatch.setattr(irbin.demo, "run", fake, raising=False)
    return seen


def test_the_demo_ends_in_a_table_and_the_commands_for_ones_own(run, calls) -> None:
    done = run("demo")
    assert done.code == 0
    assert calls == [{"out": Path("irbin-demo"), "epochs": None, "overwrite": False}]
    for part in ("90.00", "89.00", "88.00", "10.0×", "equal top-1 on 100.00 %", "took 2:03"):
        assert part in done.out
    assert "planning [x]" in done.err
    assert "irbin convert CHECKPOINT --model NAME" in done.err


def test_demo_options_and_json(run, calls) -> None:
    done = run("demo", "-o", "there", "--epochs", "1", "--overwrite", "--json", "-")
    assert calls == [{"out": Path("there"), "epochs": 1, "overwrite": True}]
    assert json.loads(done.out)["agreement"]["equal_top1"] == 100.0
