import json
from dataclasses import replace

import pytest

from irbin.records.bench import Latency, Machine, TrainBenchEntry, TrainBenchRecord
from irbin.report import training_bench
from irbin.report.jsonout import dumps

MACHINE = Machine("CPU X", 2, 0.25, "3.11", "2.14", "0.1.0", "avx2", "libgomp.so.1")


def entry(name: str, ms: float, saved: int | None = None) -> TrainBenchEntry:
    found = Latency(ms, ms / 2, ms * 2, 30)
    return TrainBenchEntry(name, found, 128e3 / ms, 1.0, ms / 4, ms / 2, 2.0, saved)


@pytest.fixture
def record() -> TrainBenchRecord:
    entries = (entry("binary", 240.0, 194_000_000), entry("float", 200.0))
    return TrainBenchRecord(
        "net",
        128,
        1,
        (3, 32, 32),
        "cpu",
        MACHINE,
        "training in bfloat16",
        "images: random",
        entries,
    )


def test_a_row_a_network_with_the_parts_of_its_step(record, render):
    rows = {
        line.split()[0]: line.split()
        for line in render(training_bench.train_bench_table(record), 140).splitlines()
        if line
    }
    assert rows["binary"][1:] == [
        "240",
        "120",
        "480",
        "533",
        "1.00",
        "60.0",
        "120",
        "2.00",
        "194",
        "MB",
    ]
    assert rows["float"][-1] == "–"


@pytest.mark.parametrize(
    ("ms", "line"),
    [
        (240, "a binary step takes 1.20× the time of a float one: within the 1.25× that it may"),
        (250, "a binary step takes 1.25× the time of a float one: within the 1.25× that it may"),
        (300, "a binary step takes 1.50× the time of a float one: more than the 1.25× that it may"),
    ],
    ids=["below", "at", "above"],
)
def test_the_ratio_is_told_with_its_promise(record, ms, line):
    found = replace(record, entries=(entry("binary", ms), record.entries[1]))
    assert training_bench.ratio_line(found) == line


def test_the_heading_names_what_a_reader_needs(record):
    heading = training_bench.train_bench_heading
    assert heading(record) == "net: training steps at batch 128 of 3×32×32, 1 thread"
    elsewhere = replace(record, n_threads=2, device="cuda")
    assert heading(elsewhere).endswith("2 threads and cuda")


def test_json_has_the_ratio_and_the_machine(record):
    value = json.loads(dumps(training_bench.train_bench_json(record)))
    assert (value["ratio"], value["promised_ratio"]) == (1.2, 1.25)
    assert [e["name"] for e in value["entries"]] == ["binary", "float"]
    assert value["machine"]["processor"] == "CPU X"
