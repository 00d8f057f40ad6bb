"""A packed network for one image as a list of calls, and where what they read and write lies.

Fusions, kernels, thresholds and places are those that `irbin.load` runs: what is added here are the
moves that `runtime` leaves to NumPy or torch, which have to be calls too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from irbin.artifact.read import Artifact
from irbin.emit.copies import Copy
from irbin.emit.moves import LINES, Added, Look, OneMove, moves_added
from irbin.emit.reads import is_of_lines
from irbin.emit.ready import by_definition, engine_of, work_of
from irbin.emit.settled import settled
from irbin.errors import LowerError
from irbin.kernels.kernel import Kernel
from irbin.program.fused import Item
from irbin.program.own import BitPack
from irbin.program.types import Node
from irbin.records.in_c import CInput
from irbin.runtime.arrays import Array, start
from irbin.runtime.layers import other_names
from irbin.runtime.memory import Memory, laid_out, last_needs
from irbin.runtime.segments import task
from irbin.runtime.work import integers

Base = Literal["arena", "image", "constant"]


@dataclass(frozen=True, eq=False)
class Place:
    """Where numbers lie."""

    base: Base
    """The arena, the image that the caller gives (planes), or a constant."""
    offset: int
    """In bytes."""
    constant: Array | None = None
    """Its numbers."""
    apart: int = 0
    """Bytes from a window of the image to the next, where a kernel takes several one by one."""


@dataclass(frozen=True, eq=False)
class Walk:
    """A move with its places."""

    does: OneMove
    """What is moved."""
    places: tuple[Place, ...]
    """Of what it reads."""
    to: Place
    """Of what it writes."""


@dataclass(frozen=True, eq=False)
class Call:
    """One call. Made by `placed`, read by `calls`."""

    item: Item
    """What the program says."""
    does: Kernel | Literal["bitpack"] | tuple[Walk, ...]
    """What computes it."""
    n: int
    """Images (one), or rows."""
    x: Place
    """What it reads first."""
    steps: tuple[int, ...]
    """Floats between neighbors along each axis of what it reads first, as the program sees it."""
    others: tuple[Place, ...]
    """What else: residuals, then what the kernel names, then memory to work on."""
    y: Place | None
    """Floats that it writes."""
    bits: Place | None
    """Bits that it writes."""
    shape: tuple[int, ...]
    """Of a `bitpack`: pixels, groups, channels of a group."""
    sizes: Mapping[str, int]
    """Bytes of its results, `y` first."""
    windows: int = 1
    """Of an image, each as an image of its own: so many times, places further on each time."""


@dataclass(frozen=True, eq=False)
class Placed:
    """All of it."""

    input: CInput
    """What an image is made of."""
    calls: tuple[Call, ...]
    """In order."""
    arena_bytes: int
    """Exactly what results and working memory take together."""
    image_shape: tuple[int, int, int]
    """(channels, height, width)."""
    outputs: tuple[Walk, ...]
    """Copies to the caller, whose places to write are counted from his; in order."""
    output_shapes: tuple[tuple[int, ...], ...]
    """Without the batch."""
    origins: Mapping[str, tuple[str, int]]
    """Of every result: whose value of the program it holds, and the axis that lies innermost."""
    by_definition: tuple[str, ...]
    """Operators that `irbin.load` leaves to torch, whose order of summing is not known."""


def placed(artifact: Artifact, images: CInput = "float32") -> Placed:
    """A packed network as calls.

    Args:
        artifact: the packed folder.
        images: what it reads.

    Raises:
        UsageError: its first layers read no bytes.
        LowerError: something in it is neither a kernel nor a move, or it takes no images; nodes and
            operators are named.
    """
    engine = engine_of(artifact)
    work = work_of(engine, images)
    known = integers(work, 1)
    image = artifact.program.inputs[work.source].shape
    if len(image) != 4:
        raise LowerError(
            f"expected a network of images (channels, height, width), got one of {image[1:]}"
        )
    channels, height, width = (int(size) for size in image[1:])
    given = settled(engine, known)
    added = moves_added(work, known, given, _image((channels, height, width), images))
    owners = {name: {one.root} for name, one in added.looks.items() if one.root != name}
    last = last_needs(added.items, work.outputs, owners)
    for name, one in added.looks.items():  # what a look is needed for, its owner is needed for
        last[one.root] = max(last.get(one.root, -1), last.get(name, -1))
    memory = laid_out(added.items, added.made, known, last, owners)
    placing = _Placing(added, memory, work.source)
    missing = [name for name in work.outputs if name not in added.looks]
    if missing:
        raise LowerError(f"expected results of floats, got `{missing[0]}`")
    results = [added.looks[name] for name in work.outputs]
    return Placed(
        input=images,
        calls=tuple(placing.call(item) for item in added.items if not _is_memory(item)),
        arena_bytes=int(memory.block.nbytes),
        image_shape=(channels, height, width),
        outputs=placing.outputs(work.outputs),
        output_shapes=tuple(one.array.shape[1:] for one in results),
        origins={
            name: (added.origins.get(name, name), form.channel_axis)
            for name, form in added.made.items()
        },
        by_definition=by_definition(artifact, engine, given),
    )


def _image(shape: tuple[int, int, int], kind: CInput) -> Array:
    """One image as the caller has it: planes of floats, or pixels of bytes."""
    channels, height, width = shape
    if kind == "float32":
        return np.empty((1, *shape), np.float32)
    return np.empty((1, height, width, channels), np.uint8).transpose(0, 3, 1, 2)


def _is_memory(item: Item) -> bool:
    return isinstance(item, Node) and item.op == LINES


class _Placing:
    """Items with places."""

    def __init__(self, added: Added, memory: Memory, source: str) -> None:
        self._added, self._memory, self._source = added, memory, source

    def call(self, item: Item) -> Call:
        """An item as a call."""
        if isinstance(item, Node):
            return self._packed(item) if item.op == "bitpack" else self._moved(item)
        made = task(item, self._added.kernels[item.name], 1)
        first = self._added.looks[item.source]
        windows = 1 if item.takes_rows else made.n
        return Call(
            item,
            made.kernel,
            made.n,
            self._window(item.source, windows),
            tuple(step // first.array.itemsize for step in first.array.strides),
            tuple(self._window(name, windows) for name in other_names(item)),
            None if item.floats is None else self._window(item.floats, windows),
            None if item.bits is None else self._window(item.bits, windows),
            (),
            {name: self._added.made[name].n_bytes for name in item.results()},
            windows,
        )

    def _window(self, name: str, windows: int) -> Place:
        """Where the first of so many windows lies, and how far the others are apart."""
        array = self._added.looks[name].array
        is_shared = windows == 1 or is_of_lines(name)
        return replace(self._where(name), apart=0 if is_shared else array.strides[0])

    def outputs(self, names: tuple[str, ...]) -> tuple[Walk, ...]:
        """Results one behind the other, in the program's order of axes."""
        walks, offset = [], 0
        for name in names:
            one = self._added.looks[name]
            to = np.empty(one.array.shape, np.float32)
            walks.append(
                Walk(Copy(name, one.array, to), (self._place(one),), Place("arena", offset))
            )
            offset += to.nbytes
        return tuple(walks)

    def _where(self, name: str) -> Place:
        return self._place(self._added.looks[name])

    def _place(self, one: Look) -> Place:
        return self._within(one.root, one.array)

    def _within(self, root: str, array: Array) -> Place:
        """Where an array that lies in an owner's memory begins."""
        if not array.size:
            return Place("arena", 0)
        within = start(array) - start(self._added.memory[root])
        if root == self._source:
            return Place("image", within)
        owner = self._memory.arrays.get(root)
        if owner is None:
            return Place("constant", within, self._added.memory[root])
        return Place("arena", start(owner) - start(self._memory.block) + within)

    def _packed(self, node: Node) -> Call:
        own, one = BitPack.of(node), self._added.looks[node.refs()[0]]
        n_channels = one.array.shape[own.channel_axis]
        shape = (one.array.size // max(n_channels, 1), own.groups, n_channels // own.groups)
        sizes = {node.name: self._added.made[node.name].n_bytes}
        bits = self._where(node.name)
        return Call(node, "bitpack", 1, self._place(one), (), (), None, bits, shape, sizes)

    def _moved(self, node: Node) -> Call:
        move, y = self._added.moves[node.name], self._where(node.name)
        walks: list[Walk] = []
        for one in move:
            names, arrays, into = _reads_and_writes(one)
            places = tuple(map(self._operand, names, arrays))
            walks.append(Walk(one, places, self._within(into or node.name, one.to)))
        sizes = {node.name: self._added.made[node.name].n_bytes}
        return Call(node, tuple(walks), 1, y, (), (), y, None, (), sizes)

    def _operand(self, name: str | None, array: Array) -> Place:
        if name is None:
            return Place("constant", 0, np.full(1, array.flat[0], np.float32))
        return self._within(self._added.looks[name].root, array)


def _reads_and_writes(
    move: OneMove,
) -> tuple[tuple[str | None, ...], tuple[Array, ...], str | None]:
    """Names and arrays that are read, and what is written where it is not the result."""
    if isinstance(move, Copy):
        return (move.source,), (move.x,), None
    return move.names, move.arrays, move.into


def n_floats(shape: tuple[int, ...]) -> int:
    """How many numbers a shape holds."""
    return math.prod(shape)
