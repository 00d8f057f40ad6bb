from __future__ import annotations

import json
import math

from irbin.planning.estimate import estimate
from irbin.records.json import from_json
from irbin.records.plan import Plan
from irbin.records.results import Agreement, ExportRecord
from irbin.report.jsonout import dumps, evaluation_json, export_json, plan_json


def test_what_is_not_finite_becomes_null() -> None:
    text = dumps({"a": math.nan, "b": [math.inf, 1.5], "c": (-math.inf,), "d": {1: None}})
    assert json.loads(text) == {"a": None, "b": [None, 1.5], "c": [None], "d": {"1": None}}
    assert text.endswith("}\n")


def test_a_plan_reads_back_from_its_json(plan: Plan) -> None:
    value = json.loads(dumps(plan_json("net", plan, estimate(plan))))
    assert from_json(Plan, value["plan"], "test") == plan
    totals = value["totals"]
    assert totals["n_layers"] == 5
    assert totals["n_binary"] == 2
    assert totals["packed_bytes"]["float16"] == plan.packed_bytes("float16")
    assert totals["binary_macs"] + totals["float_macs"] == 5_000_000
    assert value["replaced_activations"] == ["relu"]


def test_a_plans_json_has_its_estimate(plan: Plan) -> None:
    found = estimate(plan)
    value = plan_json("net", plan, found)["estimate"]
    assert value["speed_up"] == found.speed_up
    assert value["verdict"] == found.verdict
    assert value["packed_parts"] == found.packed_parts


def test_an_evaluation_keeps_timms_keys_and_gains_the_agreement(agreement: Agreement) -> None:
    timm = {"model": "packed", "top1": 91.0}
    assert evaluation_json(timm) == timm
    both = evaluation_json(timm, ("run", agreement))
    assert both["agreement"]["with"] == "run"
    assert both["agreement"]["disagreements"][0]["index"] == 123
    assert "agreement" not in timm


def test_export_has_its_ratio() -> None:
    record = ExportRecord("out", 10, 10, 20, 100, 1, 2, "float32")
    assert export_json(record)["ratio"] == 5.0
    assert export_json(ExportRecord("out", 0, 0, 0, 100, 1, 2, "float32"))["ratio"] is None


def test_names_that_are_no_text_come_back() -> None:
    text = dumps({"file": "ü\udcff.png"})
    assert json.loads(text.encode()) == {"file": "ü\udcff.png"}
