"""A program and its constants made ready to run, for batches of any size; imports torch if it must.

What depends on constants alone is computed once. The rest is fused (`program/fuse.py`) and
scheduled for each batch size on first use (`runtime/schedule.py`). Large batches are worked through
in parts whose results stay in the cache.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection
from contextlib import nullcontext
from typing import Any, get_args
from weakref import WeakMethod

import numpy as np

from irbin.artifact.read import Artifact
from irbin.errors import ArtifactError, UsageError
from irbin.kernels import native
from irbin.program.fuse import FUSIONS, fuse
from irbin.program.fused import Fused, Item
from irbin.program.program import Node, Program, Ref
from irbin.records.options import FloatMath
from irbin.runtime.arrays import as_array, as_tensor, copied, dtype_name, is_tensor
from irbin.runtime.calls import (
    Values,
    check_claim,
    failure,
    in_order,
    node_call,
    plainly,
    runs_torch,
)
from irbin.runtime.given import chunk_of
from irbin.runtime.layers import make_kernel
from irbin.runtime.operators import Operations
from irbin.runtime.schedule import Schedule, Watch
from irbin.runtime.threads import Forgetting, kernel_threads
from irbin.runtime.views import VIEWS, look
from irbin.runtime.work import Work

Record = Callable[[Node, Any], None]
"""Told of every node and its result, in order."""

PLANNED_SIZES = 4
"""Batch sizes whose schedules are kept."""


class Engine:
    """What runs a packed network; may be called from several threads.

    Takes what `model.PackedModel` takes, and raises what it raises: there it is told.
    """

    def __init__(
        self,
        artifact: Artifact,
        fusions: Collection[str] = FUSIONS,
        float_math: FloatMath = "float32",
        float_convs: bool | None = None,
    ) -> None:
        self.program: Program = artifact.program
        if float_math not in get_args(FloatMath):
            known = ", ".join(f"`{name}`" for name in get_args(FloatMath))
            raise UsageError(f"`float_math`: expected one of {known}, got `{float_math}`")
        if float_math == "bfloat16" and not native.has_bfloat16():
            raise UsageError(
                "`float_math`: expected `float32`, since this processor or its kernels have no "
                "bfloat16, got `bfloat16`"
            )
        self.float_math: FloatMath = float_math
        self._float_convs = native.is_fast_at_floats() if float_convs is None else float_convs
        self.origin = (artifact, tuple(fusions), float_math, self._float_convs)
        self._operations = Operations()
        self._constants, self._nodes = self._fold(artifact.tensors)
        self.work = self._prepare(fusions)
        self._plain: Work | None = None
        self.chunk = chunk_of(self.program)
        self._schedules: OrderedDict[int, list[Schedule]] = OrderedDict()
        self._lock = threading.Lock()
        self._forgetting = Forgetting(WeakMethod(self._begin))

    def _begin(self) -> None:
        """In a forked child: another thread of the parent may have held the lock."""
        self._lock = threading.Lock()
        self._schedules.clear()

    @property
    def runs_torch(self) -> bool:
        """Whether torch computes some of it."""
        return self.work.runs_torch

    def run(self, images: Any, watch: Watch | None = None) -> list[Any]:
        """The results of a batch.

        Args:
            images: float32 (batch, channels, height, width), an array or a tensor on the CPU.
            watch: told of every fused item and its seconds.

        Returns:
            Arrays for an array, tensors for a tensor; in memory of their own.

        Raises:
            ArtifactError: a node fails; it is named.
        """
        if is_tensor(images) and not self.runs_torch and watch is None:
            return [as_tensor(y) for y in self.run(as_array(images))]
        return joined([self._run_part(part, watch) for part in self._parts(images)], len(images))

    def record(self, images: Any, record: Record) -> list[Any]:
        """As `run`, unfused and in one part; `record` is told of every node and its result."""
        self.program.check_batch(len(images))
        self._plain = self._plain or self._prepare(())

        def watch(item: Item, values: Values, _: float) -> None:
            node = item.root if isinstance(item, Fused) else item
            record(node, values[node.name])

        schedule = Schedule(self._plain, len(images), keep_apart=True)
        return schedule.run(images, kernel_threads(), watch)

    def calling_seconds(self, images: Any, n_runs: int) -> list[float]:
        """Seconds that a batch's kernels take to be called, measured with some that do nothing."""
        parts = self._parts(images)
        schedule = Schedule(self.work, len(parts[0]), idle=True)
        totals: list[float] = []
        for _ in range(n_runs + 2):  # the first two look for views, and warm up
            before = schedule.calling_seconds
            schedule.run(parts[0], 1)
            totals.append(len(parts) * (schedule.calling_seconds - before))
        return totals[2:]

    def is_run(self, node: Node) -> bool:
        """Whether a node depends on the images, and is not computed once."""
        return any(node is one for one in self._nodes)

    def _parts(self, images: Any) -> list[Any]:
        n = len(images)
        if n <= self.chunk:
            return [images]
        return [images[at : at + self.chunk] for at in range(0, n, self.chunk)]

    def _run_part(self, images: Any, watch: Watch | None) -> list[Any]:
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
        return Schedule(self.work, n)

    def _prepare(self, fusions: Collection[str]) -> Work:
        items = fuse(self.program, self._nodes, fusions, float_convs=self._float_convs)
        given = {**self.program.inputs, **self.program.constants}
        types = {**given, **{node.name: node.type for node in self.program.nodes}}
        kernels = {
            item.name: make_kernel(item, self._constants, types, self.float_math)
            for item in items
            if isinstance(item, Fused)
        }
        nodes = [item for item in items if isinstance(item, Node)]
        for node in nodes:
            if runs_torch(node):
                self._operations[node.op]  # this torch must have it
        (source,) = self.program.inputs
        constants = {**self._constants, **_turned_weights(nodes, self._constants)}
        outputs = self.program.outputs
        return Work(items, kernels, self._operations, constants, source, outputs, given)

    def _fold(self, tensors: dict[str, Any]) -> tuple[dict[str, Any], list[Node]]:
        """Constants and results of nodes on them, as far as read later; and the other nodes."""
        # copied out of the file's pages, where nothing is aligned
        known: dict[str, Any] = {name: copied(_held(tensor)) for name, tensor in tensors.items()}
        nodes: list[Node] = []
        for node in self.program.nodes:
            if all(name in known for name in node.refs()):
                known[node.name] = self._compute(node, known)
            else:
                nodes.append(node)
        read = {name for node in nodes for name in node.refs()} | set(self.program.outputs)
        return {name: value for name, value in known.items() if name in read}, nodes

    def _compute(self, node: Node, values: dict[str, Any]) -> Any:
        try:
            result = self._computed(node, values)
            check_claim(node, result, 0)
        except Exception as error:  # whatever torch raises
            raise ArtifactError(failure(node, error)) from error
        return result

    def _computed(self, node: Node, values: dict[str, Any]) -> Any:
        if node.op in VIEWS and isinstance(values[node.refs()[0]], np.ndarray):
            return look(node, values[node.refs()[0]], values)
        made: Values = {}
        with plainly() if runs_torch(node) else nullcontext():
            node_call(node, self._operations[node.op], values)(made, 1)
        return _held(made[node.name])


def _held(value: Any) -> Any:
    """A constant as an array; as a tensor, if NumPy has no such type."""
    return value if is_tensor(value) and dtype_name(value) == "bfloat16" else as_array(value)


def _turned_weights(nodes: list[Node], constants: dict[str, Any]) -> dict[str, Any]:
    """Weights of torch's convolutions channels-last, as the images are, or it turns them always."""
    turned = {}
    for node in nodes:
        has_weight = node.op == "aten.conv2d.default" and len(node.args) > 1
        weight = node.args[1] if has_weight else None
        if isinstance(weight, Ref) and weight.name in constants:
            turned[weight.name] = in_order(as_tensor(constants[weight.name]), 1)
    return turned


def joined(parts: list[list[Any]], n: int) -> list[Any]:
    """The results of a batch of n, of those of its parts.

    Raises:
        ArtifactError: there is no memory for them.
    """
    if len(parts) == 1:
        return parts[0]
    try:
        return [_one_behind_the_other(of_parts) for of_parts in zip(*parts, strict=True)]
    except (RuntimeError, MemoryError) as error:
        raise ArtifactError(failure(None, error, n)) from error


def _one_behind_the_other(parts: tuple[Any, ...]) -> Any:
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    import torch

    return torch.cat(parts)
