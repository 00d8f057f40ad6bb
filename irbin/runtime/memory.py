"""Where a schedule's results lie: one block, parts of it by name, and other looks at these."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from irbin.kernels.plan import block
from irbin.program.fused import Fused, Item, results
from irbin.program.shapes import sizes
from irbin.program.types import Node, TensorType
from irbin.runtime.arrays import Array, unturned
from irbin.runtime.buffers import ALIGNMENT, Need, place
from irbin.runtime.layers import residual_names
from irbin.runtime.views import view

Owners = Mapping[str, set[str]]
"""Whose memory a result shows, by its name."""


@dataclass(frozen=True)
class Form:
    """A result of a kernel, for one batch size."""

    shape: tuple[int, ...]
    """As the program sees it."""
    dtype: type[np.generic]
    """float32, or uint8 of packed signs."""
    channel_axis: int
    """That lies innermost in memory."""

    @property
    def n_bytes(self) -> int:
        """Its size."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def cut(self, memory: Array, offset: int) -> Array:
        """The part of a block of bytes that begins at an offset, as this result."""
        flat = memory[offset : offset + self.n_bytes].view(self.dtype)
        sizes = list(self.shape)
        sizes.append(sizes.pop(self.channel_axis))
        return unturned(flat.reshape(sizes), self.channel_axis)


@dataclass(frozen=True, eq=False)
class Memory:
    """What lies where. Made by `laid_out`, read by segments and by torch."""

    block: Array
    """All of it, bytes."""
    arrays: Mapping[str, Array]
    """Kernels' results by name, as the program sees them, and what only looks at them."""
    views: Mapping[str, Node]
    """The nodes that only look, in order."""
    owners: Owners
    """Whose memory those show."""


def forms(items: Sequence[Item], n: int) -> dict[str, Form]:
    """What kernels give for n images, by name.

    Raises:
        ArtifactError: a size is no expression of n.
    """
    made = {}
    for item in items:
        if not isinstance(item, Fused):
            continue
        if item.floats is not None:
            made[item.floats] = Form(sizes(item.type, n), np.float32, item.channel_axis)
        if item.bits is not None and isinstance(item.bits_type, TensorType):
            shape = sizes(item.bits_type, n)
            made[item.bits] = Form(shape, np.uint8, len(shape) - 1)
    return made


def laid_out(
    items: Sequence[Item],
    made: Mapping[str, Form],
    integers: Mapping[str, Any],
    last: Mapping[str, int],
    owners: Owners,
) -> Memory:
    """Memory for all results.

    Args:
        items: of the program, in order.
        made: what kernels give.
        integers: sizes by name.
        last: the index of the item that needs each result last; the number of items if it is to
            stay. Empty: all stay, and none is written over another.
        owners: whose memory results of torch show, as far as that is known.
    """
    offsets, total = place(_needs(items, made, last, owners))
    memory = block(total, ALIGNMENT)
    arrays = {name: form.cut(memory, offsets[name]) for name, form in made.items()}
    views: dict[str, Node] = {}
    shown: dict[str, set[str]] = {}
    for item in items:
        source = item.refs()[0] if isinstance(item, Node) and item.refs() else ""
        if not isinstance(item, Node) or source not in arrays:
            continue
        seen = view(item, arrays[source], integers)
        if seen is not None:
            arrays[item.name], views[item.name] = seen, item
            shown[item.name] = shown.get(source, {source})
    return Memory(memory, arrays, views, shown)


def last_needs(items: Sequence[Item], outputs: Sequence[str], owners: Owners) -> dict[str, int]:
    """The index of the item that needs each result last; the number of items for outputs."""
    last = dict.fromkeys(outputs, len(items))
    for i, item in enumerate(items):
        for name in item.refs():
            last[name] = max(last.get(name, i), i)
    # what a view is needed for, its owner is needed for; later views first, as views of views
    for item in reversed(items):
        for name in results(item):
            for owner in owners.get(name, ()):
                last[owner] = max(last.get(owner, -1), last.get(name, -1))
    return last


def _needs(
    items: Sequence[Item], made: Mapping[str, Form], last: Mapping[str, int], owners: Owners
) -> list[Need]:
    needs = []
    for i, item in enumerate(items):
        for name in results(item):
            if name in made:
                over = _overwritable(item, owners) if isinstance(item, Fused) and last else ()
                end = max(last.get(name, i), i) if last else len(items)
                needs.append(Need(name, made[name].n_bytes, i, end, over))
    return needs


def _overwritable(item: Fused, owners: Owners) -> tuple[str, ...]:
    """What it adds of the result's size, unless it also reads it at other places.

    Windows reach further back.
    """
    if item.kind == "walk":  # all is moved before anything is added
        return ()
    read = (item.source, *item.others)
    source = {*read, *(owner for name in read for owner in owners.get(name, ()))}
    for step in item.steps:
        if step.kind == "residual" and step.channels:
            source |= {str(step.operand), *owners.get(str(step.operand), ())}
    return tuple(name for name in residual_names(item) if name not in source)
