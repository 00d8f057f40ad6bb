from __future__ import annotations

from dataclasses import replace

import pytest

from irbin.records.compression import Compression, CompressStep, Timing
from irbin.records.options import NetworkForm, Preprocessing
from irbin.records.results import Evaluation, ExportRecord
from irbin.report.compression import budget_lines, speed_words, step_line, timing_line


def test_a_step_says_what_it_does_what_came_of_it_and_what_is_next() -> None:
    step = CompressStep("convert", 2, 4, "finetune")
    assert step_line(step) == "2/4 planning, replacing layers, re-estimating batch norm"
    done = CompressStep("convert", 2, 4, "finetune", "6 layers")
    assert step_line(done) == "    6 layers; next: fine-tune"
    before = CompressStep("convert", 2, 4, "finetune", "6 layers", stood_there=True)
    assert step_line(before) == "2/4 convert: done before (6 layers); next: fine-tune"
    last = CompressStep("evaluate", 4, 4, None, "", stood_there=True)
    assert step_line(last) == "4/4 evaluate: done before (done)"


def test_the_time_of_an_image_and_torchs() -> None:
    alone = Timing(0.5, None, 1, "", "", "", "bytes")
    assert timing_line(alone) == "one image on 1 thread: 0.50 ms"
    busy = Timing(0.5, None, 1, "", "", "", "bytes", is_busy=True)
    assert timing_line(busy).endswith("0.50 ms (other work ran beside it)")
    beside = Timing(0.5, 5.0, 2, "", "", "", "bytes")
    assert timing_line(beside).startswith(
        "one image on 2 threads: 0.50 ms, the float network in torch 5.00 ms (10.0×); "
    )


def test_a_ratio_of_times_beside_other_work_is_said_to_be_unsure() -> None:
    alone = Timing(0.5, 5.0, 2, "", "", "", "bytes")
    assert speed_words(alone) == "10.0× torch's speed"
    busy = replace(alone, is_busy=True)
    assert speed_words(busy) == "10.0× torch's speed (unsure: other work ran beside it)"
    assert speed_words(replace(alone, float_ms=None)) == ""


def test_what_a_budget_keeps() -> None:
    assert budget_lines(Compression("o", {})) == []
    nothing = Compression("o", {"budget": "bytes 9"}, proposed_keep=())
    assert budget_lines(nothing) == ["kept float for the budget: nothing"]
    two = replace(nothing, proposed_keep=("a", "b"))
    assert budget_lines(two) == ["kept float for the budget: a, b"]


def evaluation(kind: NetworkForm, top1: float) -> Evaluation:
    return Evaluation(kind, kind, 100, top1, 100.0, 1.0, {}, 9.0, 9, 9, Preprocessing())


@pytest.mark.parametrize(
    ("budget", "kept", "told"),
    [
        ("bytes 100000", True, "100 kB of files, of at most 100 kB"),
        ("bytes 99999", False, "100 kB of files, of at most 100 kB; ask for less"),
        ("latency 0.5", True, "0.50 ms measured, of at most 0.5 ms"),
        ("latency 0.25", False, "0.50 ms measured, of at most 0.25 ms; the plan holds to an"),
        ("drop 3", True, "3.00 points of top-1 lost, of at most 3"),
        ("drop 2.5", False, "3.00 points of top-1 lost, of at most 2.5; the plan holds to a sam"),
    ],
)
def test_what_was_measured_is_held_against_the_budget(budget: str, kept: bool, told: str) -> None:
    record = Compression(
        "o",
        {"budget": budget},
        proposed_keep=(),
        export=ExportRecord("o", 1, 1, 100_000, 1, 1, 1, "float32"),
        evaluations={"float": evaluation("float", 90), "packed": evaluation("packed", 87)},
        timing=Timing(0.5, None, 1, "", "", "", "bytes"),
    )
    line = budget_lines(record)[1]
    assert line.startswith(f"the budget is {'' if kept else 'not '}kept: {told}")
