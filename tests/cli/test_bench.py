from __future__ import annotations

import json
import sys
from types import ModuleType
from typing import Any

import pytest

from irbin.errors import UsageError
from irbin.records.bench import (
    BenchEntry,
    BenchRecord,
    Latency,
    Machine,
    NodeTiming,
    TrainBenchEntry,
    TrainBenchRecord,
)
from irbin.records.options import DataOptions, SourceOptions

RECORD = BenchRecord(
    "packed",
    2,
    1,
    (3, 32, 32),
    Machine("CPU X", 2, 0.0, "3", "2", "0", "avx2", "own"),
    (
        BenchEntry("packed", "irbin 0", Latency(1, 1, 1, 30), 2000, None),
        BenchEntry("torch fp32", "2", Latency(8, 8, 8, 30), 250, None),
    ),
    (NodeTiming("layer1.0.conv1", "bconv2d", ("multiply",), (8, 4, 4), 900, 10**6, 0),),
    1000,
    50,
    notes=("a note",),
)

TRAINED = TrainBenchRecord(
    "resnet18",
    8,
    1,
    (3, 32, 32),
    "cpu",
    RECORD.machine,
    "in bfloat16; adamw",
    "images: random",
    (
        TrainBenchEntry("binary", Latency(120, 120, 120, 30), 67, 1, 40, 70, 2, 2_000_000),
        TrainBenchEntry("float", Latency(100, 100, 100, 30), 80, 1, 30, 60, 2, 1_000_000),
    ),
)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, as_real) -> list[tuple[Any, dict[str, Any]]]:
    fake = ModuleType("irbin.bench.inference")
    made: list[tuple[Any, dict[str, Any]]] = []

    def benchmark(source: Any, *, report: Any, **kwargs: Any) -> BenchRecord:
        report("timing", 1, 2)
        made.append((source, kwargs))
        if kwargs["against"] == ("nonsense",):
            raise UsageError("`against`: no")
        return RECORD

    fake.benchmark = as_real("irbin.bench.inference")(benchmark)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "irbin.bench.inference", fake)
    return made


def test_options_arrive_and_only_given_plan_options_are_handed_on(run, calls) -> None:
    done = run(
        "bench",
        "packed",
        "-b",
        "2",
        "--threads",
        "1",
        "--runs",
        "5",
        "--no-memory",
        "--against",
        "torch-compile, openvino",
        "--shortcut",
        "bireal",
    )
    assert done.code == 0
    assert calls == [
        (
            "packed",
            {
                "source_options": SourceOptions(),
                "batch_size": 2,
                "n_threads": 1,
                "n_runs": 5,
                "against": ("torch-compile", "openvino"),
                "memory": False,
                "float_math": "float32",
                "input_type": None,
                "shortcut": "bireal",
            },
        )
    ]


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


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch, as_real) -> list[tuple[Any, dict[str, Any]]]:
    fake = ModuleType("irbin.bench.training")
    made: list[tuple[Any, dict[str, Any]]] = []

    def benchmark_training(source: Any, *, report: Any, **kwargs: Any) -> TrainBenchRecord:
        report("compiling the binary network", 0, 0)
        made.append((source, kwargs))
        return TRAINED

    fake.benchmark_training = as_real("irbin.bench.training")(benchmark_training)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "irbin.bench.training", fake)
    return made


def test_training_takes_its_options_and_a_batch_of_its_own(run, steps) -> None:
    done = run("bench", "resnet18", "--train", "--device", "cpu", "--shortcut", "bireal")
    assert done.code == 0
    assert steps == [
        (
            "resnet18",
            {
                "source_options": SourceOptions(),
                "data": None,
                "batch_size": 128,
                "n_threads": None,
                "n_runs": 30,
                "recipe": None,
                "overrides": {},
                "device": "cpu",
                "memory": True,
                "shortcut": "bireal",
            },
        )
    ]


def test_what_is_said_of_training_arrives(run, steps, tmp_path) -> None:
    run(
        "bench",
        "resnet18",
        "--train",
        "-b",
        "8",
        "--threads",
        "1",
        "--runs",
        "5",
        "--no-memory",
        "--recipe",
        "float",
        "--amp",
        "off",
        "--no-compile",
        "--channels-last",
        "--data-dir",
        str(tmp_path),
        "--device",
        "cpu",
    )
    _, found = steps[0]
    assert found == {
        "source_options": SourceOptions(),
        "data": DataOptions(str(tmp_path), batch_size=8),
        "batch_size": 8,
        "n_threads": 1,
        "n_runs": 5,
        "recipe": "float",
        "overrides": {"amp": "off", "compile": False, "channels_last": True},
        "device": "cpu",
        "memory": False,
    }


def test_training_prints_ratio_settings_and_machine(run, steps) -> None:
    done = run("bench", "resnet18", "--train")
    for word in ("1.20×", "within the 1.25×", "backward", "in bfloat16; adamw", "images: random"):
        assert word in done.out
    assert "CPU X" in done.err
    value = json.loads(run("bench", "resnet18", "--train", "--json", "-").out)
    assert value["ratio"] == 1.2


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--recipe", "float"], "`--recipe` is of training steps; add `--train`"),
        (["--no-compile"], "`--compile` is of training steps; add `--train`"),
        (["--data-dir", "d"], "`--data-dir` is of training steps; add `--train`"),
        (
            ["--train", "--against", "openvino"],
            "`--against` times networks that run; it does not go with `--train`",
        ),
        (
            ["--train", "--float-math", "bfloat16"],
            "`--float-math` is of packed networks; with `--train` it is `--amp`",
        ),
    ],
    ids=["recipe", "compile", "data", "against", "float-math"],
)
def test_options_that_make_no_sense_together_are_refused(run, calls, steps, words, line) -> None:
    done = run("bench", "packed", *words)
    assert (done.code, done.err.splitlines()[-1]) == (2, f"irbin: {line}")
    assert calls == steps == []


def test_a_report_is_of_packed_networks(run, tmp_path) -> None:
    done = run("bench", "net", "--train", "--report", str(tmp_path / "r.html"))
    assert done.code == 2
    assert done.err == ("irbin: `--report` is of packed networks; it does not go with `--train`\n")
