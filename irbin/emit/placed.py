"""A packed network for one image as a list of calls, and where what they read and write lies.

Fusions, kernels, thresholds and places are those that `irbin.load` runs: what is added here are the
copies that `runtime` leaves to NumPy, which have to be calls too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from irbin.artifact.read import Artifact
from irbin.emit.moves import LINES, moves_added
from irbin.errors import LowerError
from irbin.kernels.kernel import Kernel
from irbin.messages import counted
from irbin.program.fused import Fused, Item
from irbin.program.own import BitPack
from irbin.program.types import Node
from irbin.runtime.arrays import Array, is_in_rows, start
from irbin.runtime.engine import Engine
from irbin.runtime.layers import other_names
from irbin.runtime.memory import Form, Memory, laid_out, last_needs
from irbin.runtime.segments import task
from irbin.runtime.work import Work, integers

Base = Literal["arena", "image"]
Move = Literal["bitpack", "to_rows", "to_planes"]
"""Calls that are no kernel of `irbin.load`: signs by themselves; an image from planes, and back."""

MAX_BYTES = 2**31 - 1
"""Of what one call reads or writes: the C counts in `int32_t`."""


@dataclass(frozen=True)
class Place:
    """Where numbers lie."""

    base: Base
    """The arena, or the image that the caller gives: planes."""
    offset: int
    """In bytes."""


@dataclass(frozen=True, eq=False)
class Call:
    """One call. Made by `placed`, read by `calls`."""

    item: Item
    """What the program says."""
    does: Kernel | Move
    """What computes it."""
    n: int
    """Images (one), or rows."""
    x: Place
    """What it reads first."""
    others: tuple[Place, ...]
    """What else: residuals, then what the kernel names, then a pooling's lines."""
    y: Place | None
    """Floats that it writes."""
    bits: Place | None
    """Bits that it writes."""
    shape: tuple[int, ...]
    """Of a move: what it reads, (channels, …) or as a `bitpack` sees it."""
    sizes: Mapping[str, int]
    """Bytes of its results, `y` first."""


@dataclass(frozen=True, eq=False)
class Placed:
    """All of it."""

    calls: tuple[Call, ...]
    """In order."""
    arena_bytes: int
    """Exactly what results and lines take together."""
    image_shape: tuple[int, int, int]
    """(channels, height, width)."""
    output: Place
    """Of the result."""
    output_shape: tuple[int, ...]
    """Without the batch."""
    output_is_rows: bool
    """Whether the result's channels lie innermost, and have to be turned on the way out."""


def placed(artifact: Artifact) -> Placed:
    """A packed network as calls.

    Raises:
        LowerError: something in it is no kernel's, or gives no single image's single result; nodes
            and operators are named.
    """
    work = Engine(artifact, float_convs=True).work
    _refuse_several(work)
    known = integers(work, 1)
    image = artifact.program.inputs[work.source].shape
    if len(image) != 4:
        raise LowerError(
            f"expected a network of images (channels, height, width), got one of {image[1:]}"
        )
    channels, height, width = (int(size) for size in image[1:])
    items, made = moves_added(work, known, (channels, height, width))
    apart = laid_out(items, made, known, {}, {})
    last = last_needs(items, work.outputs, apart.owners)
    memory = laid_out(items, made, known, last, apart.owners)
    calls = tuple(
        _call(item, work, memory)
        for item in items
        if isinstance(item, Fused) or (item.name in made and item.op != LINES)
    )
    _refuse_large(made)
    (name,) = work.outputs
    output = memory.arrays.get(name)
    if output is None:
        raise LowerError(f"expected a result that is computed, got `{name}`")
    is_rows = not is_in_rows(output, output.ndim - 1)
    if is_rows and not (output.ndim == 4 and is_in_rows(output, 1)):
        raise LowerError(f"expected the result `{name}` in order, got one that is turned")
    return Placed(
        calls=calls,
        arena_bytes=int(memory.block.nbytes),
        image_shape=(channels, height, width),
        output=_place(output, memory),
        output_shape=tuple(output.shape[1:]),
        output_is_rows=is_rows,
    )


def _refuse_several(work: Work) -> None:
    if len(work.outputs) != 1:
        raise LowerError(
            f"expected a network with one result, got {counted(len(work.outputs), 'result')}"
        )


def _refuse_large(made: Mapping[str, Form]) -> None:
    for name, form in made.items():
        if form.n_bytes > MAX_BYTES:
            raise LowerError(f"`{name}`: expected at most {MAX_BYTES} bytes, got {form.n_bytes}")


def _place(array: Array, memory: Memory) -> Place:
    return Place("arena", start(array) - start(memory.block) if array.size else 0)


def _call(item: Item, work: Work, memory: Memory) -> Call:
    def where(name: str) -> Place:
        array = memory.arrays.get(name)
        return Place("image", 0) if array is None else _place(array, memory)

    if isinstance(item, Node):
        return _move(item, memory, where(item.refs()[0]), where(item.name))
    made = task(item, work.kernels[item.name], 1)
    if made.n != 1 and not item.takes_rows:
        raise LowerError(
            f"node `{item.root.name}` ({item.root.op}): expected one image, got {made.n} of one"
        )
    return Call(
        item,
        made.kernel,
        made.n,
        where(item.source),
        tuple(where(name) for name in other_names(item)),
        None if item.floats is None else where(item.floats),
        None if item.bits is None else where(item.bits),
        (),
        {name: memory.arrays[name].nbytes for name in item.results()},
    )


def _move(node: Node, memory: Memory, x: Place, y: Place) -> Call:
    sizes = {node.name: memory.arrays[node.name].nbytes}
    match node.op:
        case "bitpack":
            source = memory.arrays[node.refs()[0]]
            own = BitPack.of(node)
            n_channels = source.shape[own.channel_axis]
            shape = (source.size // n_channels, own.groups, n_channels // own.groups)
            return Call(node, "bitpack", 1, x, (), None, y, shape, sizes)
        case "to_rows":
            shape = memory.arrays[node.name].shape[1:]
            return Call(node, "to_rows", 1, x, (), y, None, shape, sizes)
    shape = memory.arrays[node.refs()[0]].shape[1:]
    return Call(node, "to_planes", 1, x, (), y, None, shape, sizes)
