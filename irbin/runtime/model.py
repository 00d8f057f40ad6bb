"""A packed network that runs: `load` gives an `nn.Module` that needs neither timm nor its source.

What depends on constants alone is computed once, when the model is made. The rest is fused
(`program/fuse.py`) and scheduled for each batch size on first use (`runtime/schedule.py`).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, get_args
from weakref import WeakMethod

import torch
from torch import Tensor, nn

from irbin.artifact.read import Artifact, read_artifact
from irbin.artifact.schema import Manifest
from irbin.errors import ArtifactError, UsageError
from irbin.kernels import native
from irbin.program.fuse import FUSIONS, fuse
from irbin.program.fused import Fused, Item
from irbin.program.own import inner_product
from irbin.program.program import Node, Program, Ref
from irbin.records.options import FloatMath
from irbin.runtime.calls import Values, check_claim, failure, joined, resolve
from irbin.runtime.given import chunk_of, compare_state, refuse_tracing, refuse_untaken, under
from irbin.runtime.layers import make_kernel
from irbin.runtime.operators import Operation, operation
from irbin.runtime.schedule import Schedule, Watch, Work
from irbin.runtime.threads import Forgetting, kernel_threads
from irbin.zoo.entries import located

Record = Callable[[Node, Any], None]
"""Told of every node and its result, in order."""

BITS_SUFFIX = ".bits"
PLANNED_SIZES = 4
"""Batch sizes whose schedules are kept."""


class PackedModel(nn.Module):
    """A packed network. Has no parameters, computes on the CPU, may be called from several threads.

    Large batches are worked through in parts whose results stay in the cache.

    Args:
        artifact: a packed folder in memory.
        fusions: passes to make, of `program.fuse.FUSIONS`; none changes a result in float32.
        float_math: `bfloat16` rounds the inputs and weights of float convolutions (the stem, 1×1
            shortcuts), which changes results and takes about half of their time; it needs a
            processor with AVX-512 BF16.
        float_convs: whether our kernels compute the float convolutions, with the same bits for any
            batch, thread and implementation; or torch does. None: where the active one is fast.

    Attributes:
        manifest: where it came from, its plan and preprocessing.
        program: what it computes.
        path: folder it was read from.

    Raises:
        ArtifactError: this torch lacks an operator, or a node on constants fails.
        UsageError: `fusions` names a pass that there is not, `IRBIN_KERNELS` a kernel, or
            `float_math` what this processor does not do.
    """

    def __init__(
        self,
        artifact: Artifact,
        fusions: Collection[str] = FUSIONS,
        float_math: FloatMath = "float32",
        float_convs: bool | None = None,
    ) -> None:
        super().__init__()
        self.manifest: Manifest = artifact.manifest
        self.program: Program = artifact.program
        self.path: str = artifact.path
        if float_math not in get_args(FloatMath):
            known = ", ".join(f"`{name}`" for name in get_args(FloatMath))
            raise UsageError(f"`float_math`: expected one of {known}, got `{float_math}`")
        if float_math == "bfloat16" and not native.has_bfloat16():
            raise UsageError(
                "`float_math`: expected `float32`, since this processor or its kernels have no "
                "bfloat16, got `bfloat16`"
            )
        self._float_math: FloatMath = float_math
        self._float_convs = native.is_fast_at_floats() if float_convs is None else float_convs
        self._origin = (artifact, tuple(fusions), float_math, self._float_convs)
        self._operations: dict[str, Operation] = {
            op: operation(op) for op in {node.op for node in self.program.nodes}
        }
        self._constants, self._nodes = self._fold(artifact.tensors)
        self._work = self._prepare(fusions)
        self._plain: Work | None = None
        self._chunk = chunk_of(self.program)
        self._schedules: OrderedDict[int, list[Schedule]] = OrderedDict()
        self._lock = threading.Lock()
        self._forgetting = Forgetting(WeakMethod(self._begin))

    def _begin(self) -> None:
        """In a forked child: another thread of the parent may have held the lock."""
        self._lock = threading.Lock()
        self._schedules.clear()

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles as what it was made from."""
        return type(self), self._origin

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Logits of a batch of images; of a backbone its features.

        Args:
            x: floating (batch, channels, height, width), on any device; batch may be 0.

        Returns:
            On the device of x: for a classifier float32, (batch, num_classes); for a network with
            several outputs a list of tensors, in order, whatever held them in the source.

        Raises:
            UsageError: the images have another size than the program's.
        """
        if torch.compiler.is_dynamo_compiling() and not torch.compiler.is_exporting():
            # nothing of it is a graph of torch's
            run = torch.compiler.disable(self.run)  # type: ignore[no-untyped-call]
            return run(x)  # type: ignore[no-any-return]
        return self.run(x)

    @torch.no_grad()
    def run(self, x: Tensor, record: Record | None = None) -> Tensor | list[Tensor]:
        """As `forward`, and shows every intermediate value to `record`.

        Args:
            x: see `forward`.
            record: told of every node and its result, in order, unfused. What depends on constants
                alone is not among them.

        Raises:
            UsageError: the images have another size than the program's.
            ArtifactError: a node fails; it is named.
        """
        images = self._images(x)
        # a caller's autocast would make half-precision values that the program does not name
        with torch.autocast("cpu", enabled=False):
            if record is not None:
                return joined([self._run_plain(images, record)], x)
            parts = torch.split(images, self._chunk) if len(images) > self._chunk else (images,)
            return joined([self._run_part(part) for part in parts], x)

    @torch.no_grad()
    def watch(self, x: Tensor, watch: Watch) -> Tensor | list[Tensor]:
        """As `forward`, and tells `watch` of every fused item and its seconds; for benchmarks.

        Raises:
            UsageError: the images have another size than the program's.
        """
        with torch.autocast("cpu", enabled=False):
            parts = torch.split(self._images(x), self._chunk)
            return joined([self._run_part(part, watch) for part in parts], x)

    @torch.no_grad()
    def idle_seconds(self, x: Tensor, idle: Any, n_runs: int) -> list[float]:
        """Seconds between torch's nodes where every kernel is `idle`; for `runtime.profile`."""
        parts = torch.split(self._images(x), self._chunk)
        kernels = dict.fromkeys(self._work.kernels, idle)
        schedule = Schedule(replace(self._work, kernels=kernels), len(parts[0]))
        totals: list[float] = []

        def watch(item: Item, _: Values, seconds: float) -> None:
            if isinstance(item, Fused):
                totals[-1] += seconds

        for _ in range(n_runs + 2):  # the first two look for views, and warm up
            totals.append(0.0)
            schedule.run(parts[0], 1, watch)
        return [len(parts) * seconds for seconds in totals[2:]]

    def with_float_math(self, float_math: FloatMath) -> PackedModel:
        """This network, or one like it that computes its float convolutions so.

        Raises:
            UsageError: this processor does not.
        """
        if float_math == self._float_math:
            return self
        artifact, fusions, _, float_convs = self._origin
        return PackedModel(artifact, fusions, float_math, float_convs)

    @property
    def items(self) -> tuple[Item, ...]:
        """What is run, in order: fused kernels, and nodes that torch computes."""
        return self._work.items

    def is_run(self, node: Node) -> bool:
        """Whether a node depends on the images, and is not computed once."""
        return any(node is one for one in self._nodes)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:  # noqa: ARG002 - torch's
        destination.update(under(prefix, self._origin[0].tensors))

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        compare_state(under(prefix, self._origin[0].tensors), state_dict, prefix, *rest)

    def __prepare_scriptable__(self) -> NoReturn:  # torch.jit.script asks for it
        refuse_tracing()

    def _images(self, x: Tensor) -> Tensor:
        refuse_untaken(x)
        ((_, kind),) = self.program.inputs.items()
        if x.dim() != len(kind.shape) or tuple(x.shape[1:]) != kind.shape[1:]:
            shape = ", ".join(map(str, kind.shape))
            raise UsageError(f"expected images of shape ({shape}), got {tuple(x.shape)}")
        return x.detach().to("cpu", torch.float32)

    def _run_part(self, images: Tensor, watch: Watch | None = None) -> list[Tensor]:
        """A schedule is taken, used by this thread alone, and given back."""
        n = len(images)
        with self._lock:
            waiting = self._schedules.get(n)
            schedule = waiting.pop() if waiting else None
        schedule = schedule or self._scheduled(n)
        results = schedule.run(images, kernel_threads(), watch)
        with self._lock:
            self._schedules.setdefault(n, []).append(schedule)
            self._schedules.move_to_end(n)
            while len(self._schedules) > PLANNED_SIZES:
                self._schedules.popitem(last=False)
        return results

    def _scheduled(self, n: int) -> Schedule:
        """A new schedule, the program's types held against that many images first."""
        if n not in self._schedules:
            self.program.check_batch(n)
        return Schedule(self._work, n)

    def _run_plain(self, images: Tensor, record: Record) -> list[Tensor]:
        self.program.check_batch(len(images))
        self._plain = self._plain or self._prepare(())
        told = record

        def watch(item: Item, values: Values, _: float) -> None:
            node = item.root if isinstance(item, Fused) else item
            told(node, values[node.name])

        schedule = Schedule(self._plain, len(images), keep_apart=True)
        return schedule.run(images, kernel_threads(), watch)

    def _prepare(self, fusions: Collection[str]) -> Work:
        items = fuse(self.program, self._nodes, fusions, float_convs=self._float_convs)
        types = {**self.program.inputs, **self.program.constants}
        types |= {node.name: node.type for node in self.program.nodes}  # type: ignore[misc]
        kernels = {
            item.name: make_kernel(item, self._constants, types, self._float_math)
            for item in items
            if isinstance(item, Fused)
        }
        (source,) = self.program.inputs
        outputs = self.program.outputs
        return Work(items, kernels, self._operations, self._constants, source, outputs)

    @property
    def layer_nodes(self) -> dict[str, tuple[tuple[Node, Node], ...]]:
        """By binary layer's name, in execution order: its `bitpack` and `bconv2d` or `bgemm` nodes.

        A layer that the network calls several times has several pairs; a 1w32a layer has none.
        """
        by_name = {node.name: node for node in self.program.nodes}
        by_layer: dict[str, tuple[tuple[Node, Node], ...]] = {}
        for node in self.program.nodes:
            own = inner_product(node)
            if own is not None:
                layer = own.weight_bits.name.removesuffix(BITS_SUFFIX)
                by_layer[layer] = (*by_layer.get(layer, ()), (by_name[own.bits.name], node))
        return by_layer

    def extra_repr(self) -> str:
        """For `print`."""
        return f"{self.path!r}, {len(self.program.nodes)} nodes"

    def _fold(self, tensors: dict[str, Tensor]) -> tuple[dict[str, Any], list[Node]]:
        """Constants and results of nodes on them, as far as read later; and the other nodes."""
        # copied out of the file's pages, where nothing is aligned
        known: dict[str, Any] = {name: tensor.clone() for name, tensor in tensors.items()}
        nodes: list[Node] = []
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            for node in self.program.nodes:
                if all(name in known for name in node.refs()):
                    known[node.name] = self._compute(node, known)
                else:
                    nodes.append(node)
        read = {name for node in nodes for name in node.refs()} | set(self.program.outputs)
        kept = {name: value for name, value in known.items() if name in read}
        for node in nodes:  # as the images are, or torch would turn them round at every call
            has_weight = node.op == "aten.conv2d.default" and len(node.args) > 1
            weight = node.args[1] if has_weight else None
            if isinstance(weight, Ref) and weight.name in kept:
                last = kept[weight.name].contiguous(memory_format=torch.channels_last)
                kept[weight.name] = last
        return kept, nodes

    def _compute(self, node: Node, values: dict[str, Any]) -> Any:
        args = [resolve(a, values) for a in node.args]
        kwargs = {name: resolve(v, values) for name, v in node.kwargs.items()}
        try:
            result = self._operations[node.op](*args, **kwargs)
            check_claim(node, result, 0)
        except Exception as error:  # whatever torch raises
            raise ArtifactError(failure(node, error)) from error
        return result


def load(
    path: str | Path,
    fusions: Collection[str] = FUSIONS,
    float_math: FloatMath = "float32",
) -> PackedModel:
    """The packed network in a folder, ready to run.

    Args:
        path: a folder that `irbin export` wrote, or `zoo:NAME`.
        fusions: see `PackedModel`.
        float_math: see `PackedModel`.

    Raises:
        ArtifactError: see `read_artifact`.
        SourceError: the zoo has no such entry.
        UsageError: see `PackedModel`.
    """
    folder = located(path)
    native.warn()
    return PackedModel(read_artifact(folder), fusions, float_math)
