"""Nodes that move numbers, or let tensors of different shapes meet, as walks of our kernels.

What a node does is tried on arrays that lie in memory as its tensors will, of two batch sizes: it
is a walk where both move the same numbers of each image. Looks at a tensor on the way to the node
are seen through, so that what is turned, cut or repeated is read where it lies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from irbin.legs import CONSTANTS, MAX_WALK_AXES, Leg, WalkKind, Way
from irbin.program.attention import shown
from irbin.program.fused import Fused, Walk
from irbin.program.graph import LOOKS, Graph
from irbin.program.lying import LEFT, TRIED, Owner, Reading, memory_of, start_of
from irbin.program.moved import MOVES, Like, NotMoved
from irbin.program.shapes import sizes
from irbin.program.start import record_of
from irbin.program.types import Node, TensorType, Value

MAX_LEGS = 256
"""Of a walk."""
PAIRS: dict[str, WalkKind] = {
    "aten.mul.Tensor": "multiply",
    "aten.add.Tensor": "add",
    "aten.sub.Tensor": "subtract",
    "aten.div.Tensor": "divide",
    "aten.maximum.default": "maximum",
    "aten.minimum.default": "minimum",
}
"""Operators of two tensors, or of one and a number."""
SINGLE: dict[str, WalkKind] = {
    "aten.neg.default": "negate",
    "aten.abs.default": "absolute",
    "aten.square.default": "multiply",
}
"""Operators of one tensor."""
ALONG: dict[str, WalkKind] = {"aten.sum.dim_IntList": "sum", "aten.softmax.int": "softmax"}
"""Operators along one axis, which have an order of sums."""
RESHAPE = "aten.reshape.default"
OTHERS = ("aten.rsub.Scalar", "aten.reciprocal.default")
MEETINGS = (*PAIRS, *SINGLE, *OTHERS)
"""Operators number by number: steps of kernels where they can be."""


class Step(NamedTuple):
    """A leg on arrays: boxes of one shape, the batch first."""

    kind: WalkKind
    to: Like
    first: Like
    second: Like
    """The first again where one alone is read."""
    axis: int | None = None
    """Of a sum or softmax: the axis of `first` along which it goes."""


def walk(graph: Graph, kinds: Collection[str]) -> None:
    """Puts walks in the place of nodes that are some.

    Args:
        graph: changed in place.
        kinds: operators that may become walks now.
    """
    for item in list(graph.items):
        if isinstance(item, Node) and item.op in kinds and graph.holds(item):
            _put_walk(graph, item)


def _put_walk(graph: Graph, node: Node) -> None:
    record = walk_of(graph, node)
    if record is None:
        return
    graph.put(record, in_place_of=node)
    for name in dict.fromkeys(node.refs()):
        look = graph.node(name)
        is_read = bool(graph.readers(name)) or name in graph.outputs
        if look is not None and look.op in LOOKS and not is_read:
            graph.drop(look)


def walk_of(graph: Graph, node: Node) -> Fused | None:
    """A node as a walk, or None if it is left to torch.

    Left to torch: other than float32, what lies in no order that is known, images that meet.
    """
    kind = node.type
    if not isinstance(kind, TensorType) or kind.dtype != "float32" or len(kind.shape) < 2:
        return None
    if node.op == RESHAPE and not _copies(graph, node):
        return None
    reading = Reading(graph)
    try:
        made = [_made(node, reading, i) for i in range(len(TRIED))]
    except LEFT:
        return None
    tensors = [one for one in reading.owners if not one.is_constant]
    if not tensors:
        return None
    laid = []
    for axis in _axes(kind, made[0][0]):
        legs = _at_every_size(kind, axis, reading.owners, [steps for _, steps in made])
        if legs is not None:
            laid.append((axis, legs))
    if not laid:
        return None
    in_rows = [one for one in laid if all(leg.first.strides[-1] == 1 for leg in one[1])]
    axis, legs = (in_rows or laid)[0]
    first, *others = tensors
    constants = tuple(
        one.name if one.value is None else one.value for one in reading.owners if one.is_constant
    )
    sizes_read = tuple(one.memories[0].size // TRIED[0] for one in tensors)
    return replace(
        record_of(node, first.name, axis, "walk"),
        others=tuple(one.name for one in others),
        source_axis=first.channel_axis,
        others_axes=tuple(one.channel_axis for one in others),
        walk=Walk(legs, sizes_read, constants),
    )


def _axes(kind: TensorType, like: Like | None) -> list[int]:
    """Which axis the result may have innermost: that of what it lies like, if there is one."""
    rank = len(kind.shape)
    if like is not None and like.ndim == rank:
        inner = [axis for axis in range(1, rank) if abs(like.strides[axis]) == 1 < like.shape[axis]]
        if len(inner) == 1 and isinstance(kind.shape[inner[0]], int):
            return inner
    axes = [1, rank - 1] if rank == 4 else [rank - 1]
    axes = axes if like is None else axes[:1]
    return [axis for axis in axes if isinstance(kind.shape[axis], int)]


def _at_every_size(
    kind: TensorType,
    axis: int,
    owners: Sequence[Owner],
    made: Sequence[Callable[[Like], list[Step]]],
) -> tuple[Leg, ...] | None:
    """The legs, if they are the same for every batch size that is tried."""
    seen: set[tuple[Leg, ...]] = set()
    try:
        for i, (n, steps) in enumerate(zip(TRIED, made, strict=True)):
            memory = memory_of(kind, n, axis)
            to = np.moveaxis(memory, -1, axis)
            places = _Places(owners, i, n, memory)
            seen.add(tuple(places.leg(step) for step in steps(to) if step.to.size))
    except LEFT:
        return None
    (legs,) = seen if len(seen) == 1 else ((),)
    return legs if 0 < len(legs) <= MAX_LEGS else None


def _copies(graph: Graph, node: Node) -> bool:
    """Whether a reshape of what a kernel made has to move numbers."""
    source = node.refs()[0]
    while (look := graph.node(source)) is not None and look.op in LOOKS:
        source = look.refs()[0]
    if graph.maker(source) is None:
        return False
    reading = Reading(graph)
    try:
        arrays = reading.arrays(node.args[0])
        for n, array in zip(TRIED, arrays, strict=True):
            shown(node, array, n)
    except LEFT:
        return len(reading.owners) == 1
    return False


Made = tuple[Like | None, Callable[[Like], list[Step]]]
"""What the result lies like, if that is known, and the legs into it."""


def _made(node: Node, reading: Reading, i: int) -> Made:
    """What a node does for the i-th batch size."""
    kind = node.type
    assert isinstance(kind, TensorType), "looked at"
    shape = sizes(kind, TRIED[i])

    def array(value: Value) -> Like:
        return reading.arrays(value)[i]

    if node.op in MOVES:
        like, copies = MOVES[node.op](node, array, shape)
        return like, lambda to: [Step("copy", b, a, a) for a, b in copies(to)]
    if node.op in ALONG:
        return _along(node, array(node.args[0]))
    operation, args = _operation(node)
    first, *others = (np.broadcast_to(array(arg), shape) for arg in args)
    second = others[0] if others else first
    like = min((first, second), key=lambda one: one.strides.count(0))
    return like, lambda to: [Step(operation, to, first, second)]


def _operation(node: Node) -> tuple[WalkKind, list[Value]]:
    """What happens to every number of one tensor or two, and what is read."""
    args, further = list(node.args), dict(node.kwargs)
    if further.pop("alpha", 1) != 1 or further:
        raise NotMoved
    if node.op in PAIRS and len(args) == 2:
        return PAIRS[node.op], args
    if node.op in SINGLE and len(args) == 1:
        return SINGLE[node.op], args
    if node.op == "aten.rsub.Scalar" and len(args) == 2:
        return "subtract", args[::-1]
    if node.op == "aten.reciprocal.default" and len(args) == 1:
        return "divide", [1.0, *args]
    raise NotMoved


def _along(node: Node, x: Like) -> Made:
    defaults: tuple[Value, ...] = (None, False, None)
    axis, *rest = (*node.args[1:], *defaults[len(node.args) - 1 :])
    if isinstance(axis, tuple) and len(axis) == 1:
        axis = axis[0]
    if node.kwargs or not isinstance(axis, int) or axis % x.ndim == 0:
        raise NotMoved
    axis %= x.ndim
    if node.op == "aten.softmax.int":
        if len(node.args) > 2 and node.args[2] is not None:
            raise NotMoved
        return x, lambda to: [Step("softmax", to, x, x, axis)]
    keeps, dtype = rest
    if dtype is not None:
        raise NotMoved
    one = x[(slice(None),) * axis + (slice(0, 1),)]
    if keeps:
        return one, lambda to: [Step("sum", to.squeeze(axis), x, x, axis)]
    return one.squeeze(axis), lambda to: [Step("sum", to, x, x, axis)]


class _Places:
    """Where arrays lie in what is read and written, for one batch size."""

    def __init__(self, owners: Sequence[Owner], i: int, n: int, memory: Like) -> None:
        self._n, self._memory = n, memory
        self._read: list[tuple[Like, int, int]] = []  # memory, source, where that begins
        at = 0
        for number, one in enumerate(one for one in owners if not one.is_constant):
            self._read.append((one.memories[i], number, 0))
        for one in owners:
            if one.is_constant:
                self._read.append((one.memories[i], CONSTANTS, at))
                at += one.memories[i].size

    def leg(self, step: Step) -> Leg:
        """A step as numbers."""
        kind, to, first, second, along = step
        count, step_read, step_made = 1, 0, 0
        if along is not None:
            count, step_read = first.shape[along], first.strides[along]
            first = second = np.moveaxis(first, along, -1)[..., 0]
            if kind == "softmax":
                step_made = to.strides[along]
                to = np.moveaxis(to, along, -1)[..., 0]
        if not first.shape == second.shape == to.shape or to.shape[0] % self._n:
            raise NotMoved
        axes = self._axes((to, first, second))
        if len(axes) > MAX_WALK_AXES:
            raise NotMoved
        box = tuple(math.prod(self._size(to, axis) for axis in group) for group in axes) or (1,)
        offset = start_of(to) - start_of(self._memory)
        made = Way(0, offset, self._strides(to, axes, self._memory.size // self._n))
        ways = (self._way(first, axes), self._way(second, axes))
        return Leg(kind, box, made, *ways, count, step_read, step_made)

    def _way(self, array: Like, axes: Sequence[Sequence[int]]) -> Way:
        for memory, source, at in self._read:
            if np.may_share_memory(array, memory):
                image = 0 if source == CONSTANTS else memory.size // self._n
                offset = at + start_of(array) - start_of(memory)
                return Way(source, offset, self._strides(array, axes, image))
        raise NotMoved

    def _strides(self, array: Like, axes: Sequence[Sequence[int]], image: int) -> tuple[int, ...]:
        """Of groups of axes; an image of the array must be one of its memory."""
        if array.strides[0] * (array.shape[0] // self._n) != image:
            raise NotMoved
        return tuple(array.strides[group[-1]] for group in axes) or (1,)

    def _axes(self, arrays: Sequence[Like]) -> list[list[int]]:
        """Axes of an image, by how the result lies; those that follow each other in all as one."""
        made = arrays[0]
        groups: list[list[int]] = []
        for axis in sorted(range(made.ndim), key=lambda axis: -abs(made.strides[axis])):
            if self._size(made, axis) == 1:
                continue
            if groups and all(
                a.strides[groups[-1][-1]] == a.strides[axis] * self._size(made, axis)
                for a in arrays
            ):
                groups[-1].append(axis)
            else:
                groups.append([axis])
        return groups

    def _size(self, array: Like, axis: int) -> int:
        """Of an axis of one image; of the first, the batch's, an image may have several."""
        return array.shape[0] // self._n if axis == 0 else int(array.shape[axis])
