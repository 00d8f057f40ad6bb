"""What a node reads, as arrays that lie in memory as its tensors will, for a few batch sizes.

Looks at a tensor on the way to the node are seen through.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from irbin.errors import ArtifactError
from irbin.program.attention import MAX_LOOKED_AT, WINDOWS, shown
from irbin.program.graph import LOOKS, Graph
from irbin.program.moved import Like, NotMoved
from irbin.program.shapes import sizes
from irbin.program.types import Node, Ref, TensorType, Value

TRIED = (2, 3)
"""Batch sizes at which places are computed: they must not depend on it."""
LEFT = (
    NotMoved,
    ArtifactError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    MemoryError,
)
"""What says that a node is left to others: arguments and shapes are what a file says."""


@dataclass(frozen=True)
class Owner:
    """What a walk reads, and how it lies there."""

    name: str
    """Of the value whose memory it is, or of a constant; a number as it is written."""
    channel_axis: int
    """Innermost in memory."""
    memories: tuple[Like, ...]
    """For each batch size that is tried."""
    is_constant: bool
    """The same for every image."""
    value: float | None = None
    """Of a number."""


@dataclass
class Reading:
    """What a node reads, as arrays: one for each batch size that is tried."""

    graph: Graph
    owners: list[Owner] = field(default_factory=list)

    def arrays(self, value: Value) -> tuple[Like, ...]:
        """A tensor or number as the node sees it.

        Raises:
            NotMoved: it is something else, or lies in no order.
        """
        if isinstance(value, Ref):
            owner, seen = self._tensor(value.name)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            one = np.empty(1, np.int8)
            same = (one,) * len(TRIED)
            owner = Owner(repr(value), 0, same, is_constant=True, value=float(value))
            seen = (one.reshape(()),) * len(TRIED)
        else:
            raise NotMoved
        if owner.name not in [known.name for known in self.owners]:
            self.owners.append(owner)
            return seen
        known = next(one for one in self.owners if one.name == owner.name)
        return tuple(
            _elsewhere(array, memory, there)
            for array, memory, there in zip(seen, owner.memories, known.memories, strict=True)
        )

    def _tensor(self, name: str) -> tuple[Owner, tuple[Like, ...]]:
        chain: list[Node] = []
        while True:
            node = self.graph.node(name)
            if node is None or node.op not in LOOKS or not node.refs():
                break
            chain.insert(0, node)
            name = node.refs()[0]
        while True:
            source = chain[0].refs()[0] if chain else name
            owned = self._seen(source, chain)
            if owned is not None:
                return owned
            if not chain:
                raise NotMoved
            name = chain.pop(0).name  # a copy: its result lies in order itself

    def _seen(self, source: str, chain: Sequence[Node]) -> tuple[Owner, tuple[Like, ...]] | None:
        kind = self.graph.types[source]
        if not isinstance(kind, TensorType) or kind.dtype != "float32":
            return None
        is_constant = source in self.graph.constants
        axis = max(len(kind.shape) - 1, 0)
        inner = None if is_constant else self.graph.innermost(source)
        node = self.graph.node(source)
        if inner is not None:
            axis = inner
        elif node is not None and node.op in WINDOWS and len(kind.shape) == 4:
            axis = 1
        memories, seen = [], []
        for n in TRIED:
            try:
                whole = memory_of(kind, n, axis)
                array = np.moveaxis(whole, -1, axis) if kind.shape else whole.reshape(())
                for one in chain:
                    array = shown(one, array, n)
            except LEFT:
                return None
            if not np.may_share_memory(array, whole):
                return None
            memories.append(whole)
            seen.append(array)
        return Owner(source, axis, tuple(memories), is_constant), tuple(seen)


def memory_of(kind: TensorType, n: int, axis: int) -> Like:
    """Memory of a tensor for n images, that axis innermost and last.

    Raises:
        ArtifactError, ValueError, MemoryError: it is too large, or has no such size.
    """
    shape = list(sizes(kind, n))
    if math.prod(shape) > MAX_LOOKED_AT:
        raise ValueError
    if shape:
        shape.append(shape.pop(axis))
    return np.empty(shape or 1, np.int8)


def _elsewhere(array: Like, memory: Like, there: Like) -> Like:
    """The same look at other memory of the same layout."""
    offset = start_of(array) - start_of(memory)
    flat = there.reshape(-1)
    return np.lib.stride_tricks.as_strided(flat[offset:], array.shape, array.strides)


def start_of(array: Like) -> int:
    """The address of its first number."""
    return int(array.__array_interface__["data"][0])
