"""A program and its constants made ready to run, for batches of any size; imports torch if it must.

What depends on constants alone is computed once. The rest is fused (`program/fuse.py`) and
scheduled for each batch size on first use (`runtime/schedule.py`). Large batches are worked through
in parts whose results stay in the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from functools import cached_property
from types import MappingProxyType
from typing import Any, get_args

import numpy as np

from irbin.artifact.read import Artifact
from irbin.errors import ArtifactError, UsageError
from irbin.kernels import native
from irbin.program.fuse import FUSIONS, checked, fuse
from irbin.program.fused import Fused, Item
from irbin.program.pixels import other_reader
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
from irbin.runtime.layers import AS_THEY_ARE, Normalization, make_kernel
from irbin.runtime.operators import Operation, Operations
from irbin.runtime.parts import Schedules, side_by_side
from irbin.runtime.pixels import Pixels, n_channels, normalization_of, normalized
from irbin.runtime.schedule import Schedule, Watch
from irbin.runtime.signs import sign_weights
from irbin.runtime.threads import kernel_threads
from irbin.runtime.views import VIEWS, look
from irbin.runtime.work import Work

Record = Callable[[Node, Any], None]
"""Told of every node and its result, in order."""


class Engine:
    """What runs a packed network; may be called from several threads.

    Takes what `model.PackedModel` takes, and raises what it raises: there it is told. Beside that
    `definitions`: what computes nodes on images in torch's place, by operator; with some, irbin's
    kernels compute every float convolution that they can. And `walks`: whether kernels move numbers
    and let tensors of several shapes meet, or that is left as nodes.
    """

    def __init__(
        self,
        artifact: Artifact,
        fusions: Collection[str] = FUSIONS,
        float_math: FloatMath = "float32",
        float_convs: bool | None = None,
        definitions: Mapping[str, Operation] = MappingProxyType({}),
        *,
        walks: bool = True,
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
        self._fusions = checked(fusions)
        self.origin = (artifact, self._fusions, float_math, self._float_convs)
        self._walks = walks
        self._operations = Operations()
        self._definitions = definitions
        self._constants, self._nodes = self._fold(artifact.tensors)
        self._signs = sign_weights(self.program, artifact.tensors)
        self.work = self._made(self._fused(self._fusions))
        self._plain: Work | None = None
        self.chunk = chunk_of(self.program)
        self._schedules = Schedules(self.program)

    @property
    def runs_torch(self) -> bool:
        """Whether torch computes some of it, on floats."""
        return self.work.runs_torch

    def as_read(self, pixels: Pixels) -> Any:
        """Bytes as `run` takes them: as they are where the first layers read bytes, else floats.

        Args:
            pixels: uint8 (batch, height, width, channels), contiguous.

        Returns:
            (batch, channels, height, width), uint8, or normalized float32.

        Raises:
            UsageError: see `why_floats`.
        """
        if self.why_floats:
            return normalized(pixels, self._normalization)
        return pixels.transpose(0, 3, 1, 2)

    @property
    def why_floats(self) -> str:
        """Why bytes are normalized before the network reads them; '' where its first layers do.

        Raises:
            UsageError: the manifest's normalization is of another number of channels.
        """
        return self._of_bytes[1]

    @cached_property
    def _normalization(self) -> Normalization:
        preprocessing = self.origin[0].manifest.source.preprocessing
        return normalization_of(preprocessing, n_channels(self.program))

    @cached_property
    def _of_bytes(self) -> tuple[Work | None, str]:
        """What is done with bytes, or None and why that is nothing."""
        normalization = self._normalization
        items = self._fused(self._fusions, from_bytes=True)
        why = other_reader(self.program, items)
        if why:
            return None, why
        try:
            return self._made(items, normalization), ""
        except ArtifactError as error:
            return None, str(error)

    def work_on(self, images: Any) -> Work:
        """What is done with images, which are bytes or floats."""
        return (self._of_bytes[0] if dtype_name(images) == "uint8" else None) or self.work

    def run(self, images: Any, watch: Watch | None = None) -> list[Any]:
        """The results of a batch.

        Args:
            images: float32 (batch, channels, height, width), an array or a tensor on the CPU; or
                what `as_read` gave.
            watch: told of every fused item and its seconds.

        Returns:
            Arrays for an array, tensors for a tensor; in memory of their own.

        Raises:
            ArtifactError: a node fails; it is named.
        """
        runs_torch = self.work_on(images).runs_torch
        if is_tensor(images) and not runs_torch and watch is None:
            return [as_tensor(y) for y in self.run(as_array(images))]
        if not is_tensor(images) and runs_torch and not images.flags.writeable:
            images = copied(images)  # torch has no arrays that may not be written
        if watch is None and not runs_torch:
            work, n_threads = self.work_on(images), kernel_threads()
            made = side_by_side(self._schedules, work, images, self.chunk, n_threads)
            if made is not None:
                return made
        return joined([self._run_part(part, watch) for part in self._parts(images)], len(images))

    def record(self, images: Any, record: Record) -> list[Any]:
        """As `run`, unfused and in one part; `record` is told of every node and its result."""
        self.program.check_batch(len(images))
        self._plain = self._plain or self._made(self._fused(()))

        def watch(item: Item, values: Values, _: float) -> None:
            node = item.root if isinstance(item, Fused) else item
            record(node, values[node.name])

        schedule = Schedule(self._plain, len(images), keep_apart=True)
        return schedule.run(images, kernel_threads(), watch)

    def calling_seconds(self, images: Any, n_runs: int) -> list[float]:
        """Seconds that a batch's kernels take to be called, measured with some that do nothing."""
        parts = self._parts(images)
        schedule = Schedule(self.work_on(images), len(parts[0]), idle=True)
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
        schedule = self._schedules.take(self.work_on(images), images)
        results = schedule.run(images, kernel_threads(), watch)
        self._schedules.give_back(images, schedule)
        return results

    def _fused(self, fusions: Collection[str], *, from_bytes: bool = False) -> tuple[Item, ...]:
        return fuse(
            self.program,
            self._nodes,
            fusions,
            float_convs=self._float_convs,
            from_bytes=from_bytes,
            all_convs=bool(self._definitions),
            walks=self._walks,
        )

    def _made(
        self,
        items: tuple[Item, ...],
        normalization: Normalization = AS_THEY_ARE,
    ) -> Work:
        given = {**self.program.inputs, **self.program.constants}
        types = {**given, **{node.name: node.type for node in self.program.nodes}}
        others = self.work if normalization is not AS_THEY_ARE else None
        known = {} if others is None else {item.name: item for item in others.items}
        kernels = {}
        for item in items:
            if isinstance(item, Fused) and others is not None and known.get(item.name) == item:
                kernels[item.name] = others.kernels[item.name]
            elif isinstance(item, Fused):
                kernels[item.name] = make_kernel(
                    item, self._constants, types, self.float_math, normalization, self._signs
                )
        nodes = [item for item in items if isinstance(item, Node)]
        for node in nodes:
            if runs_torch(node):
                self._operations[node.op]  # this torch must have it
        (source,) = self.program.inputs
        constants = {**self._constants, **_turned_weights(nodes, self._constants)}
        outputs = self.program.outputs
        operations = Operations({**self._operations, **self._definitions})
        return Work(items, kernels, operations, constants, source, outputs, given)

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
