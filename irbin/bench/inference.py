"""`benchmark`: a packed network timed beside its float one and other runtimes, in one run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from irbin.artifact.read import Artifact
from irbin.artifact.schema import Manifest
from irbin.bench.peers import make_peers
from irbin.bench.timing import interleaved, load_ms, machine, peak_bytes
from irbin.errors import IrbinError
from irbin.kernels import native, rates
from irbin.messages import counted
from irbin.planning.estimate import estimate
from irbin.program.lower import lower
from irbin.records.bench import BenchEntry, BenchRecord, Latency, NodeTiming, TimingOptions
from irbin.records.given import LARGEST, check_whole
from irbin.records.knob import taken
from irbin.records.options import FloatMath, SourceOptions, SourceRecord
from irbin.records.results import InputType
from irbin.rewriting.network import Network
from irbin.runs.listener import Stage
from irbin.runtime.inputs import check_input_type, input_type_of
from irbin.runtime.model import PackedModel
from irbin.runtime.profile import overhead, profile
from irbin.runtime.threads import kernel_threads
from irbin.sources.opened import Source, is_packed, name_of, open_any
from irbin.sources.spec import build
from irbin.verbs import convert

PACKED, FLOAT = "packed", "float"
MEMORY_PROGRAM = "irbin.bench.memory"


def benchmark(
    source: Source | PackedModel,
    *,
    source_options: SourceOptions | None = None,
    batch_size: int = 1,
    against: Sequence[str] = (),
    float_math: FloatMath = "float32",
    input_type: InputType | None = None,
    report: Stage | None = None,
    **options: Any,
) -> BenchRecord:
    """Times a packed network, its nodes, its float network, and other runtimes on that.

    The time of a network does not depend on its weights, so the float network is built anew,
    without its checkpoint, and a float source is converted in memory. Images are random.

    Args:
        source: a packed folder; or a network to convert, lower and run from memory.
        source_options: how to read it.
        batch_size: images a call.
        against: of `bench.peers.PEERS`.
        float_math: of the packed network's float convolutions, see `PackedModel`.
        input_type: what every network is given: normalized images, `float32`, or `bytes`, which all
            but the packed network normalize first; None takes bytes where the packed network's
            first layers read them, see `PackedModel.bytes`.
        report: told of progress.
        options: fields of `TimingOptions` (`n_threads`, `n_runs`, `memory`), and, for a float
            source, of `PlanOptions`.

    Raises:
        UsageError: a peer is unknown or not installed, or options make no sense.
        SourceError, PlanError, LowerError, ArtifactError: the network cannot be packed.
    """
    timing, plan = taken(TimingOptions, options)
    check_whole("batch_size", batch_size, least=1, most=LARGEST)
    before = torch.get_num_threads()
    n_threads, n_runs = timing.n_threads or kernel_threads(), timing.n_runs
    torch.set_num_threads(n_threads)
    try:
        model = _packed(source, source_options, plan, float_math)
        record = model.manifest.source
        notes: list[str] = []
        input_type = _input_type(model, input_type, notes)
        images = _images(batch_size, record.preprocessing.input_size, input_type)
        native.warn()
        if kernel_threads() < n_threads:
            notes.append(
                f"the packed network on {counted(kernel_threads(), 'thread')}: "
                "this process may use no more processors"
            )
        calls, versions = _calls(model, record, images, against, n_threads, notes, report)
        times = interleaved(calls, n_runs, _stage(report, "timing"))
        nodes = profile(model, images, n_runs)
        peaks = _peaks(source, batch_size, n_threads, report) if timing.memory else {}
        idle = overhead(model, images, n_runs) if native.is_native() else float("nan")
        loading = load_ms(str(source)) if timing.memory and is_packed(source) else None
        entries = tuple(
            _entry(name, versions[name], times[name], batch_size, peaks.get(name)) for name in calls
        )
        if float_math != "float32":
            notes.append(f"float convolutions of the packed network in {float_math}")
        measured = _record(source, record, batch_size, n_threads, entries, nodes, notes)
        measured = replace(measured, input_type=input_type)
        if batch_size == n_threads == 1:
            measured = replace(measured, estimated_speed_up=estimate(model.manifest.plan).speed_up)
        work = model.torch_work_on(images)
        return replace(measured, overhead_us=idle, load_ms=loading, torch_work=work)
    finally:
        torch.set_num_threads(before)


def _packed(
    source: Source | PackedModel,
    source_options: SourceOptions | None,
    options: dict[str, Any],
    float_math: FloatMath,
) -> PackedModel:
    """The packed network behind whatever was named."""
    network = open_any(source, source_options)
    if isinstance(network, PackedModel):
        return network.with_float_math(float_math)
    if network.plan is None:
        network = convert(network, **options)
    return _from_memory(network).with_float_math(float_math)


def _input_type(model: PackedModel, wanted: InputType | None, notes: list[str]) -> InputType:
    """What is asked for; else bytes, where that saves making floats of them."""
    check_input_type(wanted)
    chosen = input_type_of(model, wanted)
    if chosen == "bytes" and model.why_floats:
        notes.append(
            f"the packed network normalizes bytes before it reads them: {model.why_floats}"
        )
    return chosen


def _images(batch_size: int, size: tuple[int, int, int], input_type: InputType) -> Tensor:
    """Random ones."""
    generator = torch.Generator().manual_seed(0)
    if input_type == "float32":
        return torch.randn(batch_size, *size, generator=generator)
    channels, height, width = size
    shape = (batch_size, height, width, channels)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def _from_memory(network: Network) -> PackedModel:
    """As exporting and loading, without the folder."""
    from irbin.version import __version__

    assert network.plan is not None, "it is converted"
    lowered = lower(network.module, network.source.preprocessing.input_size)
    manifest = Manifest(__version__, "float32", network.source, network.plan)
    return PackedModel(Artifact("", manifest, lowered.program, lowered.tensors))


def _calls(
    model: PackedModel,
    record: SourceRecord,
    images: Tensor,
    against: Sequence[str],
    n_threads: int,
    notes: list[str],
    report: Stage | None,
) -> tuple[dict[str, Callable[[], object]], dict[str, str]]:
    """What is timed, by name, and the version of what runs it."""
    is_bytes = images.dtype == torch.uint8
    run = model.bytes if is_bytes else model
    calls: dict[str, Callable[[], object]] = {PACKED: lambda: run(images)}
    versions = {PACKED: f"irbin {machine().irbin}"}
    float_network = _float_network(record, notes)
    if float_network is None:
        return calls, versions
    names = list(dict.fromkeys(("torch", *against)))

    def tell(line: str) -> None:
        if report is not None:
            report(line, 0, 0)

    fed = record.preprocessing if is_bytes else None
    for peer in make_peers(names, float_network, images, n_threads, tell, fed):
        calls[peer.name] = _bound(peer.run, images)
        versions[peer.name] = peer.version
    return calls, versions


def _float_network(record: SourceRecord, notes: list[str]) -> nn.Module | None:
    """The architecture with new weights; None, and a note, where it cannot be built."""
    try:
        return build(record).eval()
    except IrbinError as error:
        notes.append(f"the float network cannot be built, so there is nothing to compare: {error}")
        return None


def _bound(run: Callable[[Tensor], object], images: Tensor) -> Callable[[], object]:
    return lambda: run(images)


def _peaks(
    source: Source | PackedModel, batch_size: int, n_threads: int, report: Stage | None
) -> dict[str, int | None]:
    """Peak memory of the packed and the float network, each in a process of its own."""
    if not is_packed(source):
        return {}
    if report is not None:
        report("measuring memory", 0, 0)
    sizes = [str(batch_size), str(n_threads)]
    return {
        PACKED: peak_bytes(MEMORY_PROGRAM, [PACKED, str(source), *sizes]),
        "torch fp32": peak_bytes(MEMORY_PROGRAM, [FLOAT, str(source), *sizes]),
    }


def _entry(
    name: str, version: str, times: Latency, batch_size: int, peak: int | None
) -> BenchEntry:
    return BenchEntry(name, version, times, 1e3 * batch_size / times.median_ms, peak)


def _record(
    source: Source | PackedModel,
    record: SourceRecord,
    batch_size: int,
    n_threads: int,
    entries: tuple[BenchEntry, ...],
    nodes: tuple[NodeTiming, ...],
    notes: Sequence[str],
) -> BenchRecord:
    limits = [float("nan")] * 2
    if native.is_native():
        limits[0] = rates.median_register_rate(native.active())
    if native.is_fast_at_floats():
        limits[1] = rates.median_register_rate(native.active(), floats=True)
    return BenchRecord(
        source=name_of(source),
        batch_size=batch_size,
        n_threads=n_threads,
        input_size=record.preprocessing.input_size,
        machine=machine(),
        entries=entries,
        nodes=nodes,
        register_gmacs=limits[0],
        float_register_gmacs=limits[1],
        notes=tuple(notes),
    )


def _stage(report: Stage | None, name: str) -> Callable[[int, int], None] | None:
    if report is None:
        return None
    tell = report
    return lambda done, total: tell(name, done, total)
