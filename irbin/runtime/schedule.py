"""A program made ready for one batch size: calls in order, addresses known, memory set aside.

A schedule is for one caller at a time. Its first run keeps every result apart and looks which of
torch's results are views of ours; then one block of memory is laid out for all later runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from irbin.errors import ArtifactError
from irbin.kernels.kernel import Kernel
from irbin.program.fused import Fused, Item, results
from irbin.program.shapes import sizes
from irbin.program.types import Node, TensorType
from irbin.runtime.buffers import Need, place
from irbin.runtime.calls import (
    Call,
    Values,
    check_claim,
    failure,
    fused_call,
    in_order,
    node_call,
)
from irbin.runtime.layers import residual_names
from irbin.runtime.operators import Operation

Watch = Callable[[Item, Values, float], None]
"""Told of every item after it is done, with all values there are and its seconds."""


ANY_LAYOUT = ("bitpack", "aten.sym_size.int")
"""Operators that give the same however their input lies in memory; our kernels do too."""


@dataclass(frozen=True, eq=False)
class Work:
    """What a model hands to its schedules, the same for every batch size."""

    items: tuple[Item, ...]
    """In order."""
    kernels: Mapping[str, Kernel]
    """Of the fused items, by name."""
    operations: Mapping[str, Operation]
    """Of the others, by operator."""
    constants: Mapping[str, Any]
    """Known values."""
    source: str
    """Name of the images."""
    outputs: tuple[str, ...]
    """Names of the results."""


class Schedule:
    """The calls for batches of n images.

    Args:
        work: what to do.
        n: images.
        keep_apart: never lay results out in shared memory, for a caller who keeps them.

    Raises:
        ArtifactError: there is no memory for the results.
    """

    def __init__(self, work: Work, n: int, *, keep_apart: bool = False) -> None:
        self.work, self.n = work, n
        self._last = _last_uses(work)
        self._constants_at = {
            c.untyped_storage().data_ptr() for c in work.constants.values() if isinstance(c, Tensor)
        }
        self._is_read_by_torch = any(
            isinstance(item, Node) and item.op not in ANY_LAYOUT and work.source in item.refs()
            for item in work.items
        )
        self._is_final = keep_apart
        self._is_checked = False  # whether torch's results are what the program declares
        self._views: dict[str, set[str]] = {}
        try:
            self._buffers = self._apart()
            self._calls = self._make_calls()
        except Exception as error:
            raise ArtifactError(failure(None, error, n)) from error

    @property
    def n_bytes(self) -> int:
        """Memory set aside for the kernels' results."""
        storages = {
            b.untyped_storage().data_ptr(): b.untyped_storage().nbytes()
            for b in self._buffers.values()
        }
        return sum(storages.values())

    def run(self, x: Tensor, n_threads: int, watch: Watch | None = None) -> list[Tensor]:
        """The results for n images, each in memory of its own that is the caller's.

        Args:
            x: float32 (n, channels, height, width).
            n_threads: for our kernels.
            watch: told of every item.

        Raises:
            ArtifactError: an item fails; it is named.
        """
        values: Values = {self.work.source: self._laid_out(x), **self._buffers}
        for name in self.work.outputs:
            if name in self.work.constants:
                values[name] = self.work.constants[name]
        item: Item | None = None
        try:
            for item, call, done in zip(self.work.items, self._calls, self._last, strict=True):
                start = time.perf_counter() if watch is not None else 0.0
                call(values, n_threads)
                if watch is not None:
                    watch(item, values, time.perf_counter() - start)
                if not self._is_final:
                    self._look_for_views(item, values)
                if not self._is_checked and isinstance(item, Node):
                    check_claim(item, values[item.name], self.n)
                for name in done:
                    del values[name]
        except Exception as error:  # whatever torch raises, and an honest lack of memory
            raise ArtifactError(failure(item, error, self.n)) from error
        try:
            given: list[Tensor] = []
            for name in self.work.outputs:
                y: Tensor = values[name]
                is_taken = self._is_ours(y) or any(_shares(y, other) for other in (x, *given))
                given.append(y.clone() if is_taken else y)
            if not self._is_final:
                self._settle()
        except Exception as error:
            raise ArtifactError(failure(None, error, self.n)) from error
        self._is_checked = True
        return given

    def _laid_out(self, x: Tensor) -> Tensor:
        """The images channels-last, if torch reads them: it rounds by how they lie in memory."""
        if not self._is_read_by_torch:
            return x
        return in_order(x, 1 if x.dim() == 4 else x.dim() - 1)

    def _is_ours(self, y: Tensor) -> bool:
        """Whether a tensor lies in memory of this schedule, or of the model's constants."""
        if y.untyped_storage().data_ptr() in self._constants_at:
            return True
        return any(_shares(y, buffer) for buffer in self._buffers.values())

    def _settle(self) -> None:
        """Lays results out in one block, now that it is known who needs them how long."""
        offsets, total = place(self._needs())
        block = torch.empty(total, dtype=torch.uint8, device="cpu")
        self._buffers = {
            name: _view(block, offsets[name], buffer) for name, buffer in self._buffers.items()
        }
        self._calls = self._make_calls()
        self._is_final = True

    def _needs(self) -> list[Need]:
        items = self.work.items
        last = dict.fromkeys(self.work.outputs, len(items))
        for i, item in enumerate(items):
            for name in item.refs():
                last[name] = max(last.get(name, i), i)
        # what a view is needed for, its owner is needed for; later views first, as views of views
        for item in reversed(items):
            for name in results(item):
                for owner in self._views.get(name, ()):
                    last[owner] = max(last.get(owner, -1), last.get(name, -1))
        needs = []
        for i, item in enumerate(items):
            over = self._overwritable(item) if isinstance(item, Fused) else ()
            for name in results(item):
                if name in self._buffers:
                    n_bytes = self._buffers[name].nbytes
                    needs.append(Need(name, n_bytes, i, max(last.get(name, i), i), over))
        return needs

    def _overwritable(self, item: Fused) -> tuple[str, ...]:
        """What it adds, unless it also reads it at other places: windows reach further back."""
        read = (item.source, *item.others)
        source = {*read, *(owner for name in read for owner in self._views.get(name, ()))}
        return tuple(name for name in residual_names(item) if name not in source)

    def _look_for_views(self, item: Item, values: Values) -> None:
        """Notes whether torch's result lies in a result of ours."""
        if isinstance(item, Fused):
            return
        made = values[item.name]
        for tensor in made if isinstance(made, list | tuple) else (made,):
            if isinstance(tensor, Tensor):
                owners = {name for name, b in self._buffers.items() if _shares(tensor, b)}
                self._views.setdefault(item.name, set()).update(owners)

    def _apart(self) -> dict[str, Tensor]:
        """Memory of its own for every result of a kernel, as the program sees its shape."""
        memory = {}
        for item in self.work.items:
            if not isinstance(item, Fused):
                continue
            if item.floats is not None:
                shape = sizes(item.type, self.n)
                layout = _layout(item.type, item.channel_axis)
                memory[item.floats] = torch.empty(
                    shape, dtype=torch.float32, device="cpu", memory_format=layout
                )
            if item.bits is not None and item.bits_type is not None:
                shape = sizes(item.bits_type, self.n)
                memory[item.bits] = torch.empty(shape, dtype=torch.uint8, device="cpu")
        return memory

    def _make_calls(self) -> list[Call]:
        types = {item.name: item.type for item in self.work.items if isinstance(item, Node)}
        return [
            fused_call(item, self.work.kernels[item.name], self._buffers, types, self.n)
            if isinstance(item, Fused)
            else node_call(item, self.work.operations[item.op], self.work.constants)
            for item in self.work.items
        ]


def _last_uses(work: Work) -> list[tuple[str, ...]]:
    """For each item, torch's results that nothing reads after it."""
    kept = {*work.outputs, *work.constants}
    last_uses: list[tuple[str, ...]] = []
    for item in reversed(work.items):
        own = results(item) if isinstance(item, Node) else ()
        last = {*item.refs(), *own} - kept
        kept |= last
        last_uses.append(tuple(sorted(last)))
    return last_uses[::-1]


def _layout(kind: TensorType, channel_axis: int) -> torch.memory_format:
    last = channel_axis == len(kind.shape) - 1
    return torch.contiguous_format if last else torch.channels_last


def _view(block: Tensor, offset: int, like: Tensor) -> Tensor:
    """A part of a block as a tensor like another, strides too."""
    flat = block[offset : offset + like.nbytes].view(like.dtype)
    return flat.as_strided(like.shape, like.stride())


def _shares(one: Tensor, other: Tensor) -> bool:
    a, b = one.untyped_storage(), other.untyped_storage()
    return a.data_ptr() == b.data_ptr() and a.nbytes() > 0
