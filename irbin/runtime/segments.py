"""Kernels that follow one another with nothing between them: a segment, run by one call.

What a segment reads of others (the images, torch's results) is brought into order first; all else
lies in the schedule's block of memory, at places that are known.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from irbin.kernels.kernel import Kernel
from irbin.kernels.plan import NOTHING, Place, Plan, PlannedCall
from irbin.program.fused import Fused
from irbin.program.shapes import sizes
from irbin.program.types import ValueType
from irbin.runtime.arrays import Array, as_array, is_in_rows, rows, start
from irbin.runtime.calls import Declared, Values, check_is, declared
from irbin.runtime.layers import other_names
from irbin.runtime.memory import Memory

BLOCK = 0
"""Number of the base that is the schedule's memory; what comes from outside is counted from 1."""


class Outside(NamedTuple):
    """A value that a kernel reads and that is not in the schedule's memory as it needs it."""

    name: str
    """Of the value."""
    channel_axis: int
    """That must lie innermost."""
    takes: Literal["rows", "planes", "bits"]
    """Whether the reader also takes (batch, channels, height, width) as it is, or reads bits, whose
    bytes are innermost already."""


@dataclass(frozen=True, eq=False)
class Task:
    """A kernel, what it is for, and how many images or rows it gets."""

    item: Fused
    """What the program says."""
    kernel: Kernel
    """What computes it."""
    n: int
    """Images, or rows."""


def task(item: Fused, kernel: Kernel, n: int) -> Task:
    """The task of a record for n images."""
    shape = sizes(item.type, n)
    n_rows = shape[0]  # images, or windows of them, as networks that attend locally make
    if item.kind == "walk":  # which moves windows of an image to others
        n_rows = n
    if item.takes_rows:
        n_rows = math.prod(size for axis, size in enumerate(shape) if axis != item.channel_axis)
    return Task(item, kernel, n_rows)


class Segment(ABC):
    """Kernels in order; used by one caller at a time.

    Args:
        tasks: at least one.
        memory: where their results lie.
        types: of what torch computes, by name.
        n: images.
        idle: compiled kernels return at once, which shows what calling them takes.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        memory: Memory,
        types: Mapping[str, ValueType],
        n: int,
        *,
        idle: bool = False,
    ) -> None:
        self.is_idle = idle
        self.tasks, self.memory, self.n = tuple(tasks), memory, n
        self.at = 0
        self._outside: list[Outside] = []
        self._readers: list[int] = []  # the first task that reads each
        self._read_by: list[list[int]] = []  # for each task, numbers of what it reads
        for number, one in enumerate(self.tasks):
            read = [o for o in _reads(one.item) if not self._is_ready(o)]
            for new in read:
                if new not in self._outside:
                    self._outside.append(new)
                    self._readers.append(number)
            self._read_by.append([self._outside.index(o) for o in read])
        # a kernel looks at nothing but addresses, and a file may declare what it likes
        self._declared: list[Declared | None] = [
            declared(types[o.name], n) if o.name in types else None for o in self._outside
        ]

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of what it looks up among the values."""
        return tuple(outside.name for outside in self._outside)

    @property
    def failed(self) -> Fused:
        """The item at which the last run stopped."""
        return self.tasks[min(self.at, len(self.tasks) - 1)].item

    def run(self, values: Values, n_threads: int) -> None:
        """Computes all of it.

        Args:
            values: of others, by name.
            n_threads: at most so many.
        """
        self._run(self._given(values, range(len(self._outside))), n_threads)

    def run_one(self, number: int, values: Values, n_threads: int) -> float:
        """Computes one of its items; its seconds."""
        begin = time.perf_counter()
        given = self._given(values, self._read_by[number])
        bringing = time.perf_counter() - begin
        return bringing + self._run_one(number, given, n_threads)

    @abstractmethod
    def _run(self, given: Mapping[int, tuple[Array, bool]], n_threads: int) -> None: ...

    @abstractmethod
    def _run_one(
        self, number: int, given: Mapping[int, tuple[Array, bool]], n_threads: int
    ) -> float: ...

    def _given(self, values: Values, numbers: Sequence[int]) -> dict[int, tuple[Array, bool]]:
        """Values from outside in order, by number, and whether they are planes."""
        given = {}
        for number in numbers:
            outside = self._outside[number]
            self.at = self._readers[number]
            value, kind = values[outside.name], self._declared[number]
            if kind is not None:
                check_is(outside.name, value, kind)
            given[number] = _in_order(as_array(value), outside)
        return given

    def _is_ready(self, outside: Outside) -> bool:
        array = self.memory.arrays.get(outside.name)
        if array is None:
            return False
        return is_in_rows(
            array, array.ndim - 1 if outside.takes == "bits" else outside.channel_axis
        )


class NativeSegment(Segment):
    """Compiled kernels, as one plan; the arguments are those of a segment."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._block_at = start(self.memory.block)
        calls = [self._planned(one) for one in self.tasks]
        self._plan = Plan(calls, 1 + len(self._outside), idle=self.is_idle)
        self._bases = [self._block_at] + [0] * len(self._outside)

    @property
    def seat(self) -> tuple[Plan, int]:
        """Its plan, and the address of the memory that is the plan's base 0."""
        return self._plan, self._block_at

    def bring(self, values: Values) -> tuple[list[int], list[int], list[Array]]:
        """Addresses of what it reads of others, by base; which are planes; what must live on."""
        given = self._given(values, range(len(self._outside)))
        bases, planes = self._bring(given)
        return bases, planes, [array for array, _ in given.values()]

    def stop(self) -> bool:
        """After a failure of the plan's: whether it was this one, which `failed` tells then."""
        self.at = self._plan.reached
        return self.at < len(self.tasks)

    def _planned(self, one: Task) -> PlannedCall:
        item = one.item
        x, *others = (self._place(outside) for outside in _reads(item))
        y, bits = (self._result(name) for name in (item.floats, item.bits))
        return PlannedCall(one.kernel, one.n, x, tuple(others), y, bits)

    def _place(self, outside: Outside) -> Place:
        if self._is_ready(outside):
            return self._result(outside.name)
        return Place(1 + self._outside.index(outside), 0)

    def _result(self, name: str | None) -> Place:
        if name is None:
            return NOTHING
        array = self.memory.arrays[name]
        return Place(BLOCK, start(array) - self._block_at) if array.size else Place(BLOCK, 0)

    def _bring(self, given: Mapping[int, tuple[Array, bool]]) -> tuple[list[int], list[int]]:
        bases, planes = list(self._bases), []
        for number, (array, is_planes) in given.items():
            bases[1 + number] = start(array)
            if is_planes:
                planes.append(1 + number)
        return bases, planes

    def _run(self, given: Mapping[int, tuple[Array, bool]], n_threads: int) -> None:
        bases, planes = self._bring(given)
        try:
            self._plan.run(bases, planes, n_threads)
        finally:
            self.at = self._plan.reached

    def _run_one(
        self, number: int, given: Mapping[int, tuple[Array, bool]], n_threads: int
    ) -> float:
        self.at = number
        return self._plan.run_one(number, *self._bring(given), n_threads)


class DefinedSegment(Segment):
    """The same by the reference, on arrays."""

    def _run(self, given: Mapping[int, tuple[Array, bool]], n_threads: int) -> None:
        for number in range(len(self.tasks)):
            self._run_one(number, given, n_threads)

    def _run_one(self, number: int, given: Mapping[int, tuple[Array, bool]], _: int) -> float:
        self.at = number
        begin = time.perf_counter()
        item, kernel = self.tasks[number].item, self.tasks[number].kernel
        x, *others = (self._array(outside, given, item) for outside in _reads(item))
        y = self._written(item.floats, item, item.channel_axis)
        bits = self._written(item.bits, item, None)
        kernel.define(x, others, y, bits)
        return time.perf_counter() - begin

    def _written(self, name: str | None, item: Fused, axis: int | None) -> Array | None:
        if name is None:
            return None
        array = self.memory.arrays[name]
        in_rows = rows(array, array.ndim - 1 if axis is None else axis)
        if item.kind == "walk":
            return in_rows.reshape(self.n, -(-len(in_rows) // max(self.n, 1)), *in_rows.shape[1:])
        if item.kind == "attention":
            n_rows = math.prod(in_rows.shape[1:-1])
            return in_rows.reshape(len(in_rows), n_rows, in_rows.shape[-1])
        return self._flat(in_rows, item)

    def _array(
        self, outside: Outside, given: Mapping[int, tuple[Array, bool]], item: Fused
    ) -> Array:
        if self._is_ready(outside):
            array = self.memory.arrays[outside.name]
            axis = array.ndim - 1 if outside.takes == "bits" else outside.channel_axis
            return self._flat(rows(array, axis), item)
        array, is_planes = given[self._outside.index(outside)]
        return self._flat(rows(array, 1) if is_planes else array, item)

    def _flat(self, in_rows: Array, item: Fused) -> Array:
        if item.root.op == "bgemm" or item.kind in ("linear", "meet"):
            return in_rows.reshape(-1, 1, 1, in_rows.shape[-1])
        if in_rows.ndim < 4 and item.kind == "average":  # of tokens, or a mean that keeps no axes
            n_rows = math.prod(in_rows.shape[1:-1])
            return in_rows.reshape(len(in_rows), n_rows, 1, in_rows.shape[-1])
        if item.kind == "walk":
            n_numbers = math.prod(in_rows.shape[1:]) * (len(in_rows) // self.n if self.n else 1)
            return in_rows.reshape(self.n, n_numbers)
        if item.kind == "attention":  # residuals are of the result's shape
            n_numbers = math.prod(in_rows.shape[1:])
            return in_rows.reshape(len(in_rows), n_numbers)
        is_flat = item.kind in ("rows", "layer_norm")
        return in_rows.reshape(-1, in_rows.shape[-1]) if is_flat else in_rows


def _reads(item: Fused) -> tuple[Outside, ...]:
    """What a kernel reads beside constants, its input first."""
    first = item.producer or item  # the one that reads the source
    takes: Literal["rows", "planes", "bits"] = "rows"
    if first.kind in ("dot", "conv"):
        takes = "bits" if first.kind == "dot" else "rows" if first.from_bytes else "planes"
    names = other_names(item)
    axes = [item.channel_axis] * (len(names) - len(item.others_axes)) + [*item.others_axes]
    others = (Outside(name, at, "rows") for name, at in zip(names, axes, strict=True))
    axis = item.channel_axis if first.source_axis is None else first.source_axis
    return (Outside(item.source, axis, takes), *others)


def is_turned(item: Fused, memory: Memory) -> bool:
    """Whether a kernel reads a result of another whose channels lie along another axis."""
    read = (outside for outside in _reads(item) if outside.name in memory.arrays)
    return not all(_is_in_order(outside, memory) for outside in read)


def _is_in_order(outside: Outside, memory: Memory) -> bool:
    array = memory.arrays[outside.name]
    last = array.ndim - 1
    return is_in_rows(array, last if outside.takes == "bits" else outside.channel_axis)


def _in_order(array: Array, outside: Outside) -> tuple[Array, bool]:
    """An array as its reader needs it, and whether it is left as planes."""
    if outside.takes == "bits":
        return rows(array, array.ndim - 1), False
    if outside.takes == "planes" and array.flags.c_contiguous and array.shape[1] > 1:
        return array, True
    return rows(array, outside.channel_axis), False
