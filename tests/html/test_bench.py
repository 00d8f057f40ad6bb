from __future__ import annotations

from dataclasses import replace

import pytest

from irbin.html.bench import bench_page
from irbin.html.page import html
from irbin.records.bench import BenchEntry, BenchRecord, Latency, Machine, NodeTiming
from irbin.report.bench import least_us
from tests.html.conftest import SCRIPT, read
from tests.html.test_run import blocks_of


@pytest.fixture
def record() -> BenchRecord:
    def entry(name: str, ms: float) -> BenchEntry:
        return BenchEntry(name, "1.0", Latency(ms, ms * 0.9, ms * 1.1, 5), 1000 / ms, None)

    nodes = (
        NodeTiming(SCRIPT, "bconv2d", ("add", "<b>"), (64, 8, 8), 100.0, 2_000_000, 0),
        NodeTiming("fc", "torch linear", (), (10,), 50.0, 0, 1000),
        NodeTiming("view", "reshape", (), (), 1.0, 0, 0),
    )
    machine = Machine("CPU & <b>", 2, 0.5, "3", "2", "0", "avx2", "own")
    return BenchRecord(
        SCRIPT,
        1,
        1,
        (3, 32, 32),
        machine,
        (entry("packed", 0.2), entry("torch fp32", 2.0)),
        nodes,
        50.0,
        20.0,
    )


def test_the_sections_are_those_of_the_docs_in_order(record) -> None:
    page = bench_page(record)
    text = html(page)
    assert read(text).words("h2") == ["Time a node, beside its limit", "Beside others", "Machine"]
    assert (SCRIPT in text, "<b>" in text) == (False, False)
    assert text == html(page)


def test_a_node_stands_beside_its_limit(record) -> None:
    assert least_us(record.nodes[0], record) == pytest.approx(40.0)  # 2e6 / 50 GMAC/s
    table = blocks_of(bench_page(record), "Time a node, beside its limit")[-1]
    assert [[cell.text for cell in row[4:]] for row in table.rows] == [
        ["100", "66.2", "40.0", "40.0"],
        ["50.0", "33.1", "0.05", "0.10"],
        ["1.00", "0.66", "", ""],
    ]


def test_peers_are_told_in_times_of_the_packed_one(record) -> None:
    table = blocks_of(bench_page(record), "Beside others")[1]
    assert [[row[0].text, row[6].text] for row in table.rows] == [
        ["packed", "1.00×"],
        ["torch fp32", "10.0×"],
    ]


def test_without_kernels_there_is_no_limit(record) -> None:
    nan = float("nan")
    slow = replace(record, register_gmacs=nan, float_register_gmacs=nan)
    page = bench_page(slow)
    read(html(page))
    table = blocks_of(page, "Time a node, beside its limit")[-1]
    assert {row[-1].text for row in table.rows} == {""}
