"""What was measured, of packed networks and of training steps; torch-free."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from irbin.records.given import check_record, check_whole
from irbin.records.knob import Knob
from irbin.records.results import InputType

MOST_RUNS = 10**6
MOST_THREADS = 4096
"""More than any machine has, less than OpenMP's library runs out of memory at and ends the
process."""


@dataclass(frozen=True)
class TimingOptions:
    """How often, and on how many threads. Made by callers, read by `bench`.

    Raises:
        UsageError: a number of another type, or one that cannot be meant.
    """

    n_threads: Annotated[
        int | None,
        Knob(
            None,
            "Threads of every runtime.",
            "N",
            shown="torch's",
            least=1,
            most=MOST_THREADS,
            named="threads",
        ),
    ] = None
    n_runs: Annotated[
        int,
        Knob(
            None, "Counted runs of each, interleaved.", "N", least=2, most=MOST_RUNS, named="runs"
        ),
    ] = 30
    memory: Annotated[
        bool,
        Knob(
            None,
            "Measure a packed folder's memory and loading; of training, what a forward pass keeps "
            "for the backward one.",
        ),
    ] = True

    def __post_init__(self) -> None:
        check_record(self)
        check_whole("n_threads", self.n_threads, least=1, most=MOST_THREADS)
        check_whole("n_runs", self.n_runs, least=1, most=MOST_RUNS)


@dataclass(frozen=True)
class Latency:
    """How long one call took. Made by `bench.timing`, read by reports."""

    median_ms: float
    """Of all runs."""
    p10_ms: float
    """A tenth of the runs were faster."""
    p90_ms: float
    """A tenth of the runs were slower."""
    n_runs: int
    """Runs that were counted."""


@dataclass(frozen=True)
class BenchEntry:
    """One network on one runtime. Made by `bench`, read by reports."""

    name: str
    """`packed`, `float`, or a peer: `onnxruntime int8` …"""
    version: str
    """Of the package that ran it."""
    latency: Latency
    """Of one batch."""
    images_per_second: float
    """Batch size over the median."""
    peak_bytes: int | None
    """Memory that loading and running it added to a process; None where it was not measured."""


TORCH = "torch "
"""What a node's kernel begins with where torch computes it."""


@dataclass(frozen=True)
class TorchWork:
    """What torch computes of a packed network. Made by `runtime.packed`, read by reports."""

    operators: dict[str, int]
    """How often a batch calls each of torch's operators (`softmax`), most often first."""
    n_calls: int
    """Calls of a batch in all, of kernels too; looks at what lies there already are none."""

    @property
    def n_torch(self) -> int:
        """Calls that are torch's."""
        return sum(self.operators.values())

    @staticmethod
    def of(calls: Sequence[str]) -> TorchWork:
        """Counted from calls in order: an operator of torch's each, or '' for a kernel."""
        return TorchWork(dict(Counter(filter(None, calls)).most_common()), len(calls))


@dataclass(frozen=True)
class PackedProgram:
    """A packed folder, read. Made by `verbs.inspect_packed`, read by `irbin inspect`."""

    text: str
    """The program, a line a node."""
    torch_work: TorchWork
    """What torch computes of it here."""
    kernels: str
    """The active implementation; torch computes more where there are only slow ones."""
    why_floats: str = ""
    """Why images given as bytes are normalized first; '' where its first layers read them."""


@dataclass(frozen=True)
class NodeTiming:
    """One call inside the packed network. Made by `runtime.profile`, read by reports."""

    layer: str
    """Whose weights it has, or its name in the program."""
    kernel: str
    """`bconv2d`, `conv2d`, `max_pool2d` …; `torch …` where torch computes; `reshape` and the like
    alone look at what lies there, and copy it where they must."""
    steps: tuple[str, ...]
    """What is fused into it, in order."""
    shape: tuple[int, ...]
    """Of its result, without the batch."""
    median_us: float
    """Per batch."""
    binary_macs: int
    """1-bit multiply-adds per image."""
    float_macs: int
    """Float multiply-adds per image."""
    byte_macs: int = 0
    """Multiply-adds of bytes with 16-bit weights per image."""
    sign_macs: int = 0
    """Of floats with signs per image."""

    @property
    def n_macs(self) -> int:
        """Multiply-adds of any kind per image."""
        return self.binary_macs + self.float_macs + self.byte_macs + self.sign_macs

    @property
    def macs_of_floats(self) -> float:
        """Float multiply-adds that take as long, at least, as those that are not of signs.

        Two products of 16 bits lie where one of float32 does, and take an instruction together. Of
        floats and signs, four are looked up and added by an addition.
        """
        return self.float_macs + self.byte_macs / 2 + self.sign_macs / 4

    @property
    def is_torch(self) -> bool:
        """Whether torch computes it."""
        return self.kernel.startswith(TORCH)


@dataclass(frozen=True)
class KernelRate:
    """A binary convolution against its limit. Made by `kernels.rates`, read by reports."""

    implementation: str
    """Which kernels."""
    shape: tuple[int, int, int]
    """(channels, height, width) in and out of a 3×3 convolution."""
    output: Literal["floats", "bits", "block"]
    """What it writes: scaled floats, bits by thresholds, or all that a residual block does."""
    gmacs: float
    """10⁹ 1-bit multiply-adds a second, median."""
    register_gmacs: float
    """Of the inner loop's operations on registers alone, median, in the same run."""


@dataclass(frozen=True)
class Machine:
    """Where something was measured. Made by `bench.timing`, read by reports."""

    processor: str
    """As it calls itself."""
    n_cores: int
    """That this process may use."""
    load: float
    """Mean number of running processes in the minute before; what else ran."""
    python: str
    """Version."""
    torch: str
    """Version."""
    irbin: str
    """Version."""
    kernels: str
    """The active implementation."""
    thread_pool: str
    """Whose threads the kernels run on: `own`; before, the OpenMP library shared with torch."""


@dataclass(frozen=True)
class BenchRecord:
    """A packed network against its float one, and others. Made by `bench`, read by reports."""

    source: str
    """What was benchmarked."""
    batch_size: int
    """Images a call."""
    n_threads: int
    """Of every runtime."""
    input_size: tuple[int, int, int]
    """(channels, height, width)."""
    machine: Machine
    """Where."""
    entries: tuple[BenchEntry, ...]
    """The packed network first."""
    nodes: tuple[NodeTiming, ...]
    """Of the packed network, in order."""
    register_gmacs: float
    """1-bit multiply-adds on registers alone, 10⁹ a second, one thread; nan without kernels."""
    float_register_gmacs: float
    """The same for float32; nan also where each fused multiply-add is a function's call, since
    torch and the kernels of bytes are not held to that."""
    overhead_us: float = float("nan")
    """What it takes to call all kernels of one batch, measured with kernels that do nothing:
    Python, and bringing torch's results into the kernels' order."""
    estimated_speed_up: float | None = None
    """What `estimate` says of the plan; None where it says nothing: other batches, more threads."""
    load_ms: float | None = None
    """From `irbin.load` to a network that can run, in a fresh process that imported irbin and
    torch; None where there is no folder to load."""
    torch_work: TorchWork = TorchWork({}, 0)
    """What torch computes of the packed network."""
    notes: tuple[str, ...] = ()
    """What was left out, and why."""
    input_type: InputType = "float32"
    """What every network was given: images as bytes, which the others normalize first, or
    normalized floats."""

    @property
    def torch_share(self) -> float:
        """Of the nodes' time, what torch's take."""
        total = sum(node.median_us for node in self.nodes)
        return sum(node.median_us for node in self.nodes if node.is_torch) / total if total else 0.0

    @property
    def limit_ms(self) -> float:
        """What one batch takes if every multiply-add runs at the register-only rate of a thread.

        Those whose rate is nan count nothing, unless none has one: then it is nan.
        """
        timed = [self.least_ms(node) for node in self.nodes if node.n_macs]
        known = [ms for ms in timed if math.isfinite(ms)]
        return sum(known) if known or not timed else math.nan

    def least_ms(self, node: NodeTiming) -> float:
        """The same of one node; nan where a rate that it needs is."""
        binary = node.binary_macs / self.register_gmacs if node.binary_macs else 0.0
        floats = node.macs_of_floats / self.float_register_gmacs if node.macs_of_floats else 0.0
        return (binary + floats) / 1e6 * self.batch_size


@dataclass(frozen=True)
class TrainBenchEntry:
    """A training step of one network. Made by `bench`, read by reports."""

    name: str
    """`binary` or `float`."""
    latency: Latency
    """Of a step, its images included."""
    images_per_second: float
    """Images of a step over the median."""
    data_ms: float
    """Getting and augmenting the images; this and the other parts are medians."""
    forward_ms: float
    """Forward pass and loss."""
    backward_ms: float
    """Backward pass."""
    optimizer_ms: float
    """The optimizer, the schedules, and what clips gradients."""
    saved_bytes: int | None
    """What a forward pass keeps for the backward one where nothing is compiled, beside parameters
    and buffers; None where it was not counted."""


@dataclass(frozen=True)
class TrainBenchRecord:
    """Training steps, binary beside float. Made by `bench`, read by reports."""

    source: str
    """What was benchmarked."""
    batch_size: int
    """Images a step."""
    n_threads: int
    """On the CPU."""
    input_size: tuple[int, int, int]
    """(channels, height, width)."""
    device: str
    """torch's name of it."""
    machine: Machine
    """Where."""
    settings: str
    """How both networks were computed and by what they were moved, in words."""
    images: str
    """Where they came from, in words."""
    entries: tuple[TrainBenchEntry, ...]
    """The binary network first, then the float one."""

    @property
    def ratio(self) -> float:
        """How many times the float step's median the binary step's is."""
        binary, floats = self.entries
        return binary.latency.median_ms / floats.latency.median_ms
