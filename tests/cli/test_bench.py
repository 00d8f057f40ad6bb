from __future__ import annotations

import json
import sys
from types import ModuleType
from typing import Any

import pytest

from irbin.errors import UsageError
from irbin.records import (
    BenchEntry,
    BenchRecord,
    Latency,
    Machine,
    NodeTiming,
    SourceOptions,
)

RECORD = BenchRecord(
    "packed", 2, 1, (3, 32, 32), Machine("CPU X", 2, 0.0, "3", "2", "0", "avx2", "own"),
    (
        BenchEntry("packed", "irbin 0", Latency(1, 1, 1, 30), 2000, None),
        BenchEntry("torch fp32", "2", Latency(8, 8, 8, 30), 250, None),
    ),
    (NodeTiming("layer1.0.conv1", "bconv2d", ("multiply",), (8, 4, 4), 900, 10**6, 0),),
    1000, 50, notes=("a note",),
)  # fmt: skip


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, dict[str, Any]]]:
    fake = ModuleType("irbin.benchmarks")
    made: list[tuple[Any, dict[str, Any]]] = []

    def benchmark(source: Any, *, report: Any, **kwargs: Any) -> BenchRecord:
        report("timing", 1, 2)
        made.append((source, kwargs))
        if kwargs["against"] == ("nonsense",):
            raise UsageError("`against`: no")
        return RECORD

    fake.benchmark = benchmark  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "irbin.benchmarks", fake)
    return made


def test_options_arrive_and_only_given_plan_options_are_handed_on(run, calls) -> None:
    done = run(
        "bench", "packed", "-b", "2", "--threads", "1", "--runs", "5", "--no-memory",
        "--against", "torch-compile, openvino", "--shortcut", "bireal",
    )  # fmt: skip
    assert done.code == 0
    assert calls == [("packed", {
        "source_options": SourceOptions(), "batch_size": 2, "n_threads": 1, "n_runs": 5,
        "against": ("torch-compile", "openvino"), "memory": False, "float_math": "float32",
        "shortcut": "bireal",
    })]  # fmt: skip


def test_tables_limit_and_notes_are_printed(run, calls) -> None:
    done = run("bench", "packed")
    for word in ("8.00×", "layer1.0.conv1", "a note", "one thread needs"):
        assert word in done.out
    assert "CPU X" in done.err


def test_json_alone_is_on_standard_output(run, calls) -> None:
    value = json.loads(run("bench", "packed", "--json", "-").out)
    assert value["ratios"] == {"torch fp32": 8.0}


def test_errors_are_one_line(run, calls) -> None:
    done = run("bench", "packed", "--against", "nonsense")
    assert (done.code, done.err.splitlines()[-1]) == (2, "irbin: `against`: no")
