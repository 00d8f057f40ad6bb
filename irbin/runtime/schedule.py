"""A program made ready for one batch size: kernels in segments, addresses known, memory set aside.

A schedule is for one caller at a time. Kernels that follow one another are one call; what else is
to be computed are gaps between them. Where torch computes, the first run keeps results apart and
looks which of torch's are views of ours; then one block of memory is laid out for all later runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from irbin.errors import ArtifactError
from irbin.kernels import native
from irbin.program.fused import Fused, Item
from irbin.program.shapes import SIZE
from irbin.program.types import Node
from irbin.runtime.arrays import (
    as_array,
    as_tensor,
    comes_by_image,
    copied,
    extent,
    is_shaped,
    is_tensor,
)
from irbin.runtime.calls import (
    Call,
    Values,
    check_claim,
    failure,
    in_order,
    look_call,
    node_call,
    plainly,
)
from irbin.runtime.memory import Memory, forms, laid_out, last_needs
from irbin.runtime.segments import DefinedSegment, NativeSegment, Segment, is_turned, task
from irbin.runtime.views import VIEWS
from irbin.runtime.work import Work, integers, last_uses

Watch = Callable[[Item, Values, float], None]
"""Told of every item after it is done, with all values there are and its seconds."""

ANY_LAYOUT = ("bitpack", SIZE)
"""Operators that give the same however their input lies in memory; our kernels do too."""


@dataclass(frozen=True, eq=False)
class Gap:
    """A node that no kernel computes, between segments."""

    node: Node
    """What the program says."""
    call: Call
    """What computes it."""

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of what it looks up among the values."""
        return self.node.refs()

    @property
    def failed(self) -> Item:
        """The item at which the last run stopped."""
        return self.node

    def run(self, values: Values, n_threads: int) -> None:
        """Computes it, from values by name into them."""
        self.call(values, n_threads)


Step = Segment | Gap


class Schedule:
    """The calls for batches of n images.

    Args:
        work: what to do.
        n: images.
        keep_apart: never lay results out in shared memory, for a caller who keeps them.
        idle: kernels return at once, which shows what calling them takes.

    Attributes:
        calling_seconds: what an idle schedule took to call its kernels, in all runs.

    Raises:
        ArtifactError: there is no memory for the results.
    """

    def __init__(self, work: Work, n: int, *, keep_apart: bool = False, idle: bool = False) -> None:
        self.work, self.n, self._is_idle = work, n, idle
        self.calling_seconds = 0.0
        names = [item.name for item in work.items]
        self._last = dict(zip(names, last_uses(work), strict=True))
        self._constants_at = {extent(c)[0] for c in work.constants.values() if is_shaped(c)}
        self._reads_images = any(
            isinstance(item, Node) and item.op not in ANY_LAYOUT and work.source in item.refs()
            for item in work.items
        )
        self._is_checked = False  # whether torch's results are what the program declares
        self._owners: dict[str, set[str]] = {}  # of torch's results that are views of ours
        self._is_final = keep_apart or not work.runs_torch
        try:
            self._forms = forms(work.items, n)
            self._integers = integers(work, n)
            self._build(apart=keep_apart or work.runs_torch)
        except Exception as error:
            raise ArtifactError(failure(None, error, n)) from error

    @property
    def n_bytes(self) -> int:
        """Memory set aside for the kernels' results."""
        return int(self._memory.block.nbytes)

    @cached_property
    def segment(self) -> NativeSegment | None:
        """The one that does all of it, if there is one, and its results lie image by image."""
        (first, *others) = self._steps or (None,)
        if others or not isinstance(first, NativeSegment) or self.work.runs_torch:
            return None
        made = [self._memory.arrays.get(name) for name in self.work.outputs]
        return first if all(y is not None and comes_by_image(y, self.n) for y in made) else None

    def results(self) -> list[Any]:
        """What `run` copies its results from, of a schedule with a `segment`."""
        return [self._memory.arrays[name] for name in self.work.outputs]

    def given(self, x: Any) -> Values:
        """What a `segment` finds its images and other values in."""
        return {**self._shown(tensors=False, everything=False), self.work.source: x}

    def run(self, x: Any, n_threads: int, watch: Watch | None = None) -> list[Any]:
        """The results for n images, each in memory of its own that is the caller's.

        Args:
            x: float32 (n, channels, height, width), an array or a tensor.
            n_threads: for our kernels.
            watch: told of every item; values are tensors if x is one, or torch computes some.

        Returns:
            Arrays for an array, tensors for a tensor.

        Raises:
            ArtifactError: an item fails; it is named.
        """
        if not self.work.runs_torch:
            return self._run(x, n_threads, watch)
        with plainly():
            results = self._run(as_tensor(x), n_threads, watch)
        return results if is_tensor(x) else [as_array(y) for y in results]

    def _run(self, x: Any, n_threads: int, watch: Watch | None) -> list[Any]:
        self._in_tensors = is_tensor(x)
        values: Values = {self.work.source: self._laid_out(x)}
        values |= self._shown(tensors=is_tensor(x), everything=watch is not None)
        step: Step | None = None
        try:
            if watch is None:
                for step in self._steps:
                    self._take(step, values, n_threads)
            else:
                for item, step, number in self._moves:
                    seconds = self._take_one(step, number, values, n_threads)
                    watch(item, values, seconds)
                    for name in self._last[item.name]:
                        values.pop(name, None)
        except Exception as error:  # whatever torch raises, and an honest lack of memory
            failed = None if step is None else step.failed
            raise ArtifactError(failure(failed, error, self.n)) from error
        try:
            given = self._given(values, x)
            if not self._is_final:
                self._build(apart=False)
                self._is_final = True
        except Exception as error:
            raise ArtifactError(failure(None, error, self.n)) from error
        self._is_checked = True
        return given

    def _take(self, step: Step, values: Values, n_threads: int) -> None:
        begin = time.perf_counter() if self._is_idle else 0.0
        step.run(values, n_threads)
        if isinstance(step, Gap):
            self._look_at(step.node, values)
        elif self._is_idle:
            self.calling_seconds += time.perf_counter() - begin
        for name in self._dropped[step]:
            values.pop(name, None)

    def _take_one(self, step: Step | None, number: int, values: Values, n_threads: int) -> float:
        """One item alone, so that it can be told what it took; its seconds."""
        if isinstance(step, Segment):
            return step.run_one(number, values, n_threads)
        begin = time.perf_counter()
        if step is not None:
            step.run(values, n_threads)
        seconds = time.perf_counter() - begin
        if step is not None:
            self._look_at(step.node, values)
        return seconds

    def _look_at(self, node: Node, values: Values) -> None:
        """What a node gave: whether the program says so, and whose memory it lies in."""
        made = values[node.name]
        if self._in_tensors:
            made = values[node.name] = as_tensor(made)
        if not self._is_final:
            for tensor in made if isinstance(made, list | tuple) else (made,):
                owners = {n for n in self._forms if _shares(tensor, self._memory.arrays[n])}
                self._owners.setdefault(node.name, set()).update(owners)
        if not self._is_checked:
            check_claim(node, made, self.n)

    def _given(self, values: Values, x: Any) -> list[Any]:
        """Results as the caller's own."""
        given: list[Any] = []
        for name in self.work.outputs:
            y = values[name]
            is_taken = self._is_ours(y) or any(_shares(y, other) for other in (x, *given))
            given.append(copied(y) if is_taken else y)
        return given

    def _laid_out(self, x: Any) -> Any:
        """The images channels-last, if torch reads them: it rounds by how they lie in memory."""
        if not (self._reads_images and self.work.runs_torch):
            return x
        return in_order(x, 1 if x.dim() == 4 else x.dim() - 1)

    def _is_ours(self, y: Any) -> bool:
        """Whether a value lies in memory of this schedule, or of the model's constants."""
        at, n_bytes = extent(y)
        if at in self._constants_at:
            return True
        begin, all_bytes = extent(self._memory.block)
        return n_bytes > 0 and begin <= at < begin + all_bytes

    def _build(self, *, apart: bool) -> None:
        """Sets memory aside and makes the calls; `apart` before it is known who needs it when."""
        items, outputs = self.work.items, self.work.outputs
        memory = laid_out(items, self._forms, self._integers, {}, {})
        owners = {**memory.owners, **self._owners}
        if not apart:
            last = last_needs(items, outputs, owners)
            memory = laid_out(items, self._forms, self._integers, last, owners)
        self._memory = memory
        self._faces: dict[tuple[bool, bool], Values] = {}
        self._moves = self._grouped(memory)
        self._steps = tuple(dict.fromkeys(step for _, step, _ in self._moves if step is not None))
        self._dropped: dict[Step, tuple[str, ...]] = {}
        known = {self.work.source, *(name for step in self._steps for name in step.reads)}
        known |= {step.node.name for step in self._steps if isinstance(step, Gap)}
        for item, step, _ in self._moves:
            if step is not None:
                dropped = (name for name in self._last[item.name] if name in known)
                self._dropped[step] = (*self._dropped.get(step, ()), *dropped)

    def _grouped(self, memory: Memory) -> list[tuple[Item, Step | None, int]]:
        """Each item, what computes it, and which of that it is; None where nothing does."""
        kinds = {item.name: item.type for item in self.work.items if isinstance(item, Node)}
        make = NativeSegment if native.is_native() else DefinedSegment
        moves: list[tuple[Item, Step | None, int]] = []
        waiting: list[tuple[int, Fused]] = []

        def close() -> None:
            if not waiting:
                return
            tasks = [task(one, self.work.kernels[one.name], self.n) for _, one in waiting]
            segment = make(tasks, memory, kinds, self.n, idle=self._is_idle)
            for number, (at, one) in enumerate(waiting):
                moves[at] = (one, segment, number)
            waiting.clear()

        for item in self.work.items:
            if isinstance(item, Fused):
                if is_turned(item, memory):  # brought in order when what made it is done
                    close()
                waiting.append((len(moves), item))
                moves.append((item, None, 0))
            elif item.name in self._integers or item.name in memory.views:
                moves.append((item, None, 0))
            else:
                close()
                moves.append((item, Gap(item, self._node_call(item)), 0))
        close()
        return moves

    def _node_call(self, node: Node) -> Call:
        known = {**self.work.constants, **self._integers}
        if node.op in VIEWS and not self.work.runs_torch:
            return look_call(node, known)
        return node_call(node, self.work.operations[node.op], known)

    def _shown(self, *, tensors: bool, everything: bool) -> Values:
        """What is there before a run, for those who look it up by name."""
        key = (tensors, everything)
        if key not in self._faces:
            constants, outputs = self.work.constants, self.work.outputs
            values: Values = {name: constants[name] for name in outputs if name in constants}
            values |= {**self._integers, **self._memory.arrays}
            if tensors:
                values = {name: as_tensor(value) for name, value in values.items()}
            if tensors and self.work.runs_torch:
                for node in self._memory.views.values():  # as torch itself would look at them
                    self._node_call(node)(values, 1)
            if not everything:
                read = {name for step in self._steps for name in step.reads} | set(outputs)
                values = {name: value for name, value in values.items() if name in read}
            self._faces[key] = values
        return self._faces[key]


def _shares(one: Any, other: Any) -> bool:
    """Whether two values begin in the same memory."""
    if not (is_shaped(one) and is_shaped(other)):
        return False
    (one_at, n_bytes), (other_at, _) = extent(one), extent(other)
    return one_at == other_at and n_bytes > 0
