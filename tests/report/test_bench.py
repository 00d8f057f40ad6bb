import json
import math
from dataclasses import replace

import pytest

from irbin.records.bench import (
    BenchEntry,
    BenchRecord,
    KernelRate,
    Latency,
    Machine,
    NodeTiming,
    TorchWork,
)
from irbin.report import bench
from irbin.report.jsonout import dumps

MACHINE = Machine("CPU X", 2, 0.25, "3.11", "2.14", "0.1.0", "avx2", "libgomp.so.1")


def entry(name: str, ms: float, peak: int | None = None) -> BenchEntry:
    return BenchEntry(name, f"{name} 1.0", Latency(ms, ms / 2, ms * 2, 30), 1000 / ms, peak)


@pytest.fixture
def record() -> BenchRecord:
    nodes = (
        NodeTiming("conv1", "conv2d + max_pool2d", ("multiply",), (64, 56, 56), 500, 0, 10**7),
        NodeTiming("layer1", "bconv2d", ("multiply", "add"), (64, 56, 56), 100, 10**8, 0),
        NodeTiming("flat", "reshape", (), (64,), 1, 0, 0),
        NodeTiming("gate", "torch sigmoid", (), (64,), 2, 0, 0),
    )
    entries = (entry("packed", 5.0, 10**7), entry("torch fp32", 50.0), entry("openvino int8", 10.0))
    return BenchRecord("net", 1, 1, (3, 224, 224), MACHINE, entries, nodes, 1000.0, 50.0)


def test_limit_is_the_sum_of_both_kinds_at_their_rates(record):
    # 1e8 / 1e12 s + 1e7 / 5e10 s
    assert record.limit_ms == pytest.approx(0.1 + 0.2)
    assert replace(record, batch_size=4).limit_ms == pytest.approx(4 * 0.3)


def test_four_products_of_floats_and_signs_take_the_time_of_a_float_one(record, render):
    layer = replace(record.nodes[0], float_macs=0, sign_macs=10**7)
    found = replace(record, nodes=(layer, *record.nodes[1:]))
    assert "10.0 M of floats with signs (four in its time)" in bench.limit_line(found)
    assert found.limit_ms < record.limit_ms


def test_two_products_of_bytes_take_the_time_of_a_float_one(record, render):
    stem = replace(record.nodes[0], float_macs=0, byte_macs=10**7)
    found = replace(record, nodes=(stem, *record.nodes[1:]), input_type="bytes")
    assert found.limit_ms == pytest.approx(0.1 + 0.1)
    assert "10.0 M of bytes (two in a float one's time)" in bench.limit_line(found)
    assert "of bytes" not in bench.limit_line(record)
    rows = render(bench.nodes_table(found, 140), 140).splitlines()
    conv = next(row for row in rows if row.startswith("conv1"))
    assert conv.split()[-2:] == ["20.0", "20.0"]  # 1e7/500 µs; 100/500 µs
    assert "224 as bytes" in bench.bench_heading(found)


def test_ratios_are_in_times_of_the_packed_network(record, render):
    text = render(bench.entries_table(record, 120), 120)
    rows = {line.split()[0]: line for line in text.splitlines() if line}
    assert "10.0×" in rows["torch"]
    assert "2.00×" in rows["openvino"]
    assert "10.0 MB" in rows["packed"]
    assert "–" in rows["torch"]


def test_nodes_show_share_rate_and_limit(record, render):
    rows = render(bench.nodes_table(record, 140), 140).splitlines()
    conv = next(row for row in rows if row.startswith("conv1"))
    assert conv.split()[-3:] == ["82.9", "20.0", "40.0"]  # 500/603; 1e7/500 µs; 200/500 µs
    layer = next(row for row in rows if row.startswith("layer1"))
    assert layer.split()[-2:] == ["1,000", "100"]


def test_what_takes_next_to_no_time_is_one_row(record, render):
    text = render(bench.nodes_table(record, 140), 140)
    assert "2 more" in text
    assert "reshape" not in text


def test_what_torch_computes_is_told_with_its_share(record):
    assert bench.torch_lines(record) == ()
    told = replace(record, torch_work=TorchWork.of(["", "sigmoid", "", "sum", "sum"]))
    line = "torch computes 3 of 5 calls: 2 `sum`, 1 `sigmoid`, 0.33 % of the time"  # 2/603
    assert bench.torch_lines(told) == (line,)
    value = json.loads(dumps(bench.bench_json(told)))
    assert value["torch_work"] == {"operators": {"sum": 2, "sigmoid": 1}, "n_calls": 5}
    assert value["torch_share"] == pytest.approx(2 / 603)


def test_a_line_says_how_far_the_limit_is(record):
    line = bench.limit_line(record)
    assert "0.30 ms" in line
    assert line.endswith("measured is 16.7× that")


def test_where_floats_have_no_limit_the_others_keep_theirs(record, render):
    machine = replace(MACHINE, kernels="portable")
    stem = replace(record.nodes[0], kernel="conv2d of bytes", float_macs=0, byte_macs=10**7)
    nodes = (stem, *record.nodes[1:])
    found = replace(record, machine=machine, nodes=nodes, float_register_gmacs=math.nan)
    assert found.limit_ms == pytest.approx(0.1)
    line = bench.limit_line(found)
    assert "no limit is known of floats and bytes with portable kernels" in line
    assert line.endswith(
        "1,000 GMAC/s, one thread needs 0.10 ms for the others: measured is 50.0× that"
    )
    rows = render(bench.nodes_table(found, 140), 140).splitlines()
    ends = {row.split()[0]: row.split()[-2:] for row in rows if row}
    assert ends["conv1"] == ["82.9", "20.0"]  # a rate, and nothing of a limit
    assert ends["layer1"] == ["1,000", "100"]
    floats = bench.limit_line(replace(found, nodes=nodes[:1]))
    assert floats.endswith("no limit is known of floats and bytes with portable kernels")
    assert "nan" not in bench.limit_line(replace(found, register_gmacs=math.nan))


def test_nothing_is_advised_where_packed_is_faster(record):
    assert bench.slower_lines(record) == ()


def test_slow_binary_layers_are_named_where_packed_is_slower(record):
    slow = replace(record.nodes[1], median_us=10_000, layer="depthwise")
    slower = replace(
        record, nodes=(*record.nodes, slow), entries=(entry("packed", 60.0), *record.entries[1:])
    )
    (line,) = bench.slower_lines(slower)
    assert "keep `depthwise` float (`--keep`)" in line
    assert "layer1" not in line


def test_overhead_is_told_with_its_share_and_loading_where_measured(record):
    assert bench.overhead_lines(record) == ()
    (line,) = bench.overhead_lines(replace(record, overhead_us=50.0))
    assert line == "calling the kernels takes 50.0 µs, 1.00 % of the time"
    lines = bench.overhead_lines(replace(record, load_ms=75.0))
    assert lines == ("loading takes 75.0 ms in a fresh process",)


def test_the_estimate_stands_beside_what_was_measured(record):
    assert bench.estimate_lines(record) == ()
    told = replace(record, estimated_speed_up=8.75)
    fitted = replace(told, machine=replace(MACHINE, kernels="avx512_vpopcntdq"))
    assert bench.estimate_lines(fitted) == ("estimated 8.75× torch fp32, measured 10.0×",)
    assert bench.estimate_lines(replace(told, entries=record.entries[:1])) == ()
    slower = replace(told, machine=replace(MACHINE, kernels="avx2"))  # half of it, say
    line = "estimated 8.75× torch fp32 for `avx512_vpopcntdq`, where more is gained, measured 10.0×"
    assert bench.estimate_lines(slower) == (line,)


def test_json_has_the_ratios_and_no_nan(record):
    without = replace(record, register_gmacs=math.nan, float_register_gmacs=math.nan)
    value = json.loads(dumps(bench.bench_json(without)))
    assert value["ratios"] == {"torch fp32": 10.0, "openvino int8": 2.0}
    assert value["limit_ms"] is None
    assert value["machine"]["processor"] == "CPU X"


def test_heading_and_machine_name_what_a_reader_needs(record):
    assert (
        bench.bench_heading(record)
        == "net: batch 1 of 3×224×224 as float32, 1 thread, avx2 kernels"
    )
    assert "2 threads" in bench.bench_heading(replace(record, n_threads=2))
    line = bench.machine_line(MACHINE)
    for word in ("CPU X", "2 cores", "load 0.25", "torch 2.14", "libgomp.so.1"):
        assert word in line


def test_rates_are_shares_of_their_own_limit(render):
    found = (KernelRate("avx2", (64, 56, 56), "bits", 300.0, 400.0),)
    assert render(bench.rates_table(found), 100).split()[-3:] == ["300", "400", "75.0"]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 140])
def test_names_are_whole_at_every_width(render, record, width):
    networks = render(bench.entries_table(record, width), width)
    nodes = render(bench.nodes_table(record, width), width)
    assert max(map(len, (networks + nodes).splitlines())) <= width
    assert all(entry.name in networks for entry in record.entries)
    total = sum(node.median_us for node in record.nodes)
    large = [n for n in record.nodes if n.binary_macs or n.median_us >= 0.005 * total]
    assert all(node.layer in nodes for node in large)
    assert ("run by" in networks) == (width >= 80)
