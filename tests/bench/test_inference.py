"""The benchmark on a small network: what it holds, not how fast it is."""

import math
from functools import partial

import pytest
import torch

import irbin
from irbin.artifact.read import read_artifact
from irbin.bench import inference, memory
from irbin.bench.timing import interleaved
from irbin.bench.training import benchmark_training
from irbin.errors import UsageError
from irbin.kernels import native
from irbin.records.options import SourceOptions
from irbin.runtime.model import PackedModel
from irbin.runtime.profile import overhead

PLAN = {"shortcut": "bireal"}


@pytest.fixture(scope="module")
def record(folder):
    with pytest.MonkeyPatch.context() as patch:  # one fresh process loads it as well as five
        patch.setattr(inference, "load_ms", partial(inference.load_ms, n_runs=1))
        return irbin.benchmark(folder / "packed", n_runs=2, batch_size=2, n_threads=1)


@pytest.mark.slow
class TestOfAPackedFolder:
    def test_the_packed_network_comes_first_then_its_float_one(self, record):
        assert [entry.name for entry in record.entries] == ["packed", "torch fp32"]
        assert all(entry.latency.median_ms > 0 for entry in record.entries)

    def test_throughput_is_the_batch_over_the_median(self, record):
        for entry in record.entries:
            expected = 2e3 / entry.latency.median_ms
            assert entry.images_per_second == pytest.approx(expected)

    def test_multiply_adds_are_those_of_the_plan(self, record, folder):
        plan = irbin.plan(folder / "converted")
        assert sum(node.binary_macs for node in record.nodes) == plan.binary_macs
        assert record.input_type == "bytes"
        stem = next(node for node in record.nodes if node.byte_macs)
        assert stem.kernel == "conv2d of bytes"
        assert stem.byte_macs == 16 * 32 * 32 * 27
        assert sum(n.float_macs + n.byte_macs for n in record.nodes) == plan.float_macs

    def test_memory_is_measured_where_the_system_tells(self, record):
        if memory.STATUS.is_file():
            assert all(entry.peak_bytes is not None for entry in record.entries)
        else:
            assert all(entry.peak_bytes is None for entry in record.entries)

    def test_calling_takes_less_than_running(self, record, folder):
        assert record.overhead_us > 0
        model, x = irbin.load(folder / "packed"), torch.randn(2, 3, 32, 32)
        running = interleaved({"model": lambda: model(x)}, 10)["model"]
        idle = min(overhead(model, x, 1) for _ in range(10))  # a busy machine delays some
        assert idle < 1e3 * running.median_ms

    def test_loading_is_measured_in_a_fresh_process(self, record):
        assert record.load_ms is not None
        assert record.load_ms > 0

    def test_threads_are_as_they_were_afterwards(self, folder):
        before = torch.get_num_threads()
        irbin.benchmark(folder / "packed", n_runs=1, n_threads=before + 1, memory=False)
        assert torch.get_num_threads() == before


@pytest.mark.slow
def test_nothing_is_held_to_the_rate_of_functions_that_are_called(folder, monkeypatch):
    monkeypatch.setattr(inference, "load_ms", partial(inference.load_ms, n_runs=1))
    with native.using("portable"):  # torch's convolutions were at 4,700 % of that rate
        found = irbin.benchmark(folder / "packed", n_runs=1, n_threads=1, memory=False)
    assert math.isnan(found.float_register_gmacs)
    assert found.register_gmacs > 0
    of_bits = [node for node in found.nodes if node.binary_macs and not node.macs_of_floats]
    assert found.limit_ms == pytest.approx(sum(map(found.least_ms, of_bits)))


@pytest.mark.slow
@pytest.mark.parametrize("source", ["paper:resnet20", "converted"])
def test_a_network_is_converted_and_lowered_in_memory(folder, source):
    name = folder / source if source == "converted" else source
    options = {} if source == "converted" else PLAN
    found = irbin.benchmark(name, n_runs=1, n_threads=1, **options)
    assert sum(node.binary_macs for node in found.nodes) > 0
    assert found.entries[0].peak_bytes is None  # no other process can open it by name
    assert found.load_ms is None
    plan = irbin.plan(name, **options)
    assert found.estimated_speed_up == irbin.estimate(plan).speed_up


@pytest.mark.slow
def test_floats_are_timed_where_they_are_asked_for_or_bytes_are_not_read(folder, monkeypatch):
    few = {"n_runs": 1, "n_threads": 1, "memory": False}
    found = irbin.benchmark(folder / "packed", input_type="float32", **few)
    assert found.input_type == "float32"
    assert next(node for node in found.nodes if node.float_macs).kernel == "conv2d"
    assert sum(node.byte_macs for node in found.nodes) == 0
    monkeypatch.setattr(PackedModel, "why_floats", "a shortcut reads them")
    assert irbin.benchmark(folder / "packed", **few).input_type == "float32"
    asked = irbin.benchmark(folder / "packed", input_type="bytes", **few)
    assert asked.input_type == "bytes"
    assert asked.notes == (
        "the packed network normalizes bytes before it reads them: a shortcut reads them",
    )
    with pytest.raises(UsageError, match=r"^`input_type`: expected one of `bytes`, `float32`"):
        irbin.benchmark(folder / "packed", input_type="int8", **few)


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("n_threads", -1, "a whole number from 1 to 4096"),
        ("n_threads", 1_000_000, "a whole number from 1 to 4096"),
        ("n_threads", 1.5, "a whole number"),
        ("n_runs", 10**20, "a whole number from 1 to 1000000"),
        ("batch_size", 10**20, "a whole number from 1 to 1000000000"),
        ("n_runs", 0, "a whole number from 1 to 1000000"),
        ("n_runs", "2", "a whole number"),
        ("batch_size", -1, "a whole number from 1 to 1000000000"),
        ("batch_size", 1.5, "a whole number from 1 to 1000000000"),
        ("memory", "no", "True or False"),
    ],
)
@pytest.mark.parametrize("bench", [irbin.benchmark, benchmark_training])
def test_numbers_that_cannot_be_meant_are_told(bench, name, value, wanted):
    with pytest.raises(UsageError, match=rf"^`{name}`: expected {wanted}.*, got .+$"):
        bench("paper:resnet20", **{name: value})


@pytest.mark.slow
def test_nothing_is_estimated_for_other_batches(folder):
    found = irbin.benchmark(folder / "packed", n_runs=1, batch_size=2, n_threads=1, memory=False)
    assert found.estimated_speed_up is None


@pytest.mark.slow
def test_options_of_the_source_are_taken(folder):
    options = SourceOptions(num_classes=7)
    found = irbin.benchmark("paper:resnet20", source_options=options, n_runs=1, memory=False)
    assert found.nodes[-1].shape == (7,)


@pytest.mark.slow
def test_an_unknown_peer_is_told_before_anything_runs(folder):
    with pytest.raises(UsageError, match="tensorrt"):
        irbin.benchmark(folder / "packed", against=["tensorrt"], n_runs=1)


@pytest.mark.slow
def test_a_float_network_that_cannot_be_built_is_a_note(folder, monkeypatch):
    def gone(_):
        raise irbin.IrbinError("its code is gone")

    monkeypatch.setattr(inference, "build", gone)
    found = irbin.benchmark(folder / "packed", n_runs=1, memory=False)
    assert [entry.name for entry in found.entries] == ["packed"]
    assert found.notes == (
        "the float network cannot be built, so there is nothing to compare: its code is gone",
    )


@pytest.mark.slow
def test_loading_without_compiled_kernels_says_so_and_computes_the_same(folder, monkeypatch):
    images = torch.randn(2, 3, 32, 32)
    # torch's own convolutions in both: the reference leaves float ones to it
    path = folder / "packed"
    wanted = PackedModel(read_artifact(path), float_convs=False)(images)
    monkeypatch.setattr(native, "_module", None)
    monkeypatch.setattr(native._State, "active", None)
    monkeypatch.setattr(native._State, "has_warned", False)
    with pytest.warns(UserWarning, match="on the NumPy reference, slowly"):
        model = irbin.load(path)
    assert torch.equal(model(images), wanted)


@pytest.mark.slow
def test_a_packed_network_on_fewer_threads_than_asked_for_is_said(monkeypatch):
    monkeypatch.setattr("irbin.bench.inference.kernel_threads", lambda: 1)
    record = irbin.benchmark("zoo:resnet20-cifar10-1w1a", n_threads=2, n_runs=1, memory=False)
    assert any("packed network on 1 thread" in note for note in record.notes)
    monkeypatch.setattr("irbin.bench.inference.kernel_threads", lambda: 2)
    record = irbin.benchmark("zoo:resnet20-cifar10-1w1a", n_threads=2, n_runs=1, memory=False)
    assert not any("packed network on" in note for note in record.notes)
