"""Each call as a few lines of C: what it computes as constants, then the call itself."""

from __future__ import annotations

import re
from collections.abc import Sequence

from irbin.emit.copies import MAX_WALK_AXES, Copy, walked
from irbin.emit.kernel_lines import kernel_lines
from irbin.emit.meetings import Meeting
from irbin.emit.placed import Call, Place, Walk
from irbin.emit.weights import Weights, float_literal
from irbin.emit.writer import Writer, pointer, read
from irbin.errors import LowerError
from irbin.kernels.kernel import Kernel
from irbin.program.fused import Fused


def call_lines(call: Call, weights: Weights, number: int) -> list[str]:
    """The block of one call.

    Args:
        call: what to write.
        weights: gets its constants.
        number: of the call, from 0.

    Raises:
        LowerError: its kernel or one of its steps is not written in C; the node is named.
    """
    writer = Writer(call, weights, number)
    if isinstance(call.does, Kernel):
        lines = kernel_lines(writer, call.does)
    elif call.does == "bitpack":
        lines = _pack_lines(writer)
    else:
        lines = [line for walk in call.does for line in _walk_lines(writer, walk)]
    traced = _traced(call)
    return [f"    {{ /* {number}: {described(call)} */", *_indented(lines + traced), "    }"]


def described(call: Call) -> str:
    """A call for readers: which layer, which node."""
    item = call.item
    if not isinstance(item, Fused):
        return plain(f"{item.name} ({item.op})")
    nodes = [item.producer.root, item.root] if item.producer is not None else [item.root]
    layers = [name for node in nodes for name in node.refs() if name.endswith((".bits", ".weight"))]
    named = " ".join(re.sub(r"\.(bits|weight)$", "", name) for name in layers[:1])
    told = f"{named}: " if named else ""
    size = "x".join(map(str, item.type.shape[1:]))
    return plain(f"{told}{' + '.join(f'{n.name} ({n.op})' for n in nodes)}, {size}")


def plain(text: str) -> str:
    """A text from a file as part of a comment."""
    return re.sub(r"[^\w .,:;()+\-]", "_", text, flags=re.ASCII)


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"        {line}" for line in lines]


def _traced(call: Call) -> list[str]:
    """What a test looks at: results as they lie in memory."""
    lines = []
    for name, place, kind in zip(call.sizes, _results(call), _kinds(call), strict=True):
        lines.append(f"TRACE({pointer(place, kind)}, {call.sizes[name]});")
    return lines


def _results(call: Call) -> list[Place]:
    return [place for place in (call.y, call.bits) if place is not None]


def _kinds(call: Call) -> list[str]:
    named = (("FLOATS", call.y), ("BITS", call.bits))
    return [kind for kind, place in named if place is not None]


def _pack_lines(w: Writer) -> list[str]:
    call = w.call
    assert call.bits is not None, "a bitpack gives bits"
    pixels, groups, channels = call.shape
    x, bits = read(w, call.x), pointer(call.bits, "BITS")
    return [f"irbin_bitpack({pixels}, {groups}, {channels}, {x}, {bits});"]


def _walk_lines(w: Writer, walk: Walk) -> list[str]:
    move = walk.does
    places = [read(w, place) for place in walk.places]
    return walk_lines(move, places, pointer(walk.to, "FLOATS"))


def walk_lines(move: Copy | Meeting, read_at: Sequence[str], to: str) -> list[str]:
    """A move as C.

    Args:
        move: what is moved.
        read_at: where what it reads lies.
        to: where what it writes lies.
    """
    if not move.to.size:
        return []
    arrays = (move.x,) if isinstance(move, Copy) else move.arrays
    sizes, steps = walked(*arrays, move.to)
    if len(sizes) > MAX_WALK_AXES:
        raise LowerError(f"expected at most {MAX_WALK_AXES} axes, got {len(sizes)}")
    names = ("from", "other") if isinstance(move, Meeting) else ("from",)
    fields = [("size", sizes), *zip((*names, "to"), steps, strict=True)]
    written = ", ".join(f".{name} = {{{', '.join(map(str, of))}}}" for name, of in fields)
    walk = f"static const irbin_walk walk = {{.axes = {len(sizes)}, {written}}};"
    if isinstance(move, Copy):
        call = f"irbin_copy(&walk, {read_at[0]}, {to});"
    else:
        operation, factor = f"IRBIN_OF_{move.operation}", float_literal(move.factor)
        call = f"irbin_meet(&walk, {operation}, {factor}, {read_at[0]}, {read_at[1]}, {to});"
    return ["{", f"    {walk}", f"    {call}", "}"]
