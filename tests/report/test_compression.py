from __future__ import annotations

from irbin.records.compression import Compression, CompressStep, Timing
from irbin.report.compression import kept_line, step_line, timing_line


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


def test_what_a_budget_keeps() -> None:
    assert kept_line(Compression("o", {})) == ""
    assert kept_line(Compression("o", {}, proposed_keep=())) == "kept float for the budget: nothing"
    told = kept_line(Compression("o", {}, proposed_keep=("a", "b")))
    assert told == "kept float for the budget: a, b"
