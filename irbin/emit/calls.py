"""Each call as a few lines of C: what it computes as constants, then the call itself."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from irbin.emit.copies import MAX_COPY_AXES, Copy, in_order, walked
from irbin.emit.folds import Fold
from irbin.emit.kernel_lines import kernel_lines
from irbin.emit.meetings import Meeting
from irbin.emit.moves import OneMove
from irbin.emit.placed import Call, Place, Walk
from irbin.emit.products import Product, Soft, batches
from irbin.emit.weights import Weights, float_literal
from irbin.emit.writer import Writer, pointer, read
from irbin.errors import LowerError
from irbin.kernels.kernel import Kernel
from irbin.program.fused import Fused
from irbin.runtime.arrays import Array


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
        lines = _each_window(call.windows, kernel_lines(writer, call.does))
    elif call.does == "bitpack":
        lines = _pack_lines(writer)
    else:
        lines = [line for walk in call.does for line in _walk_lines(writer, walk)]
    traced = _traced(call)
    return [f"    {{ /* {number}: {described(call)} */", *_indented(lines + traced), "    }"]


def _each_window(n: int, lines: list[str]) -> list[str]:
    """A kernel's lines, for every window that is an image to it."""
    if n == 1:
        return lines
    return [f"for (int32_t nth = 0; nth < {n}; ++nth) {{", *_indented(lines, 4), "}"]


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


def _indented(lines: Sequence[str], by: int = 8) -> list[str]:
    return [f"{' ' * by}{line}" for line in lines]


def _traced(call: Call) -> list[str]:
    """What a test looks at: results as they lie in memory."""
    lines = []
    for name, place, kind in zip(call.sizes, _results(call), _kinds(call), strict=True):
        whole = pointer(replace(place, apart=0), kind)
        lines.append(f"TRACE({whole}, {call.sizes[name]});")
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


def walk_lines(move: OneMove, read_at: Sequence[str], to: str) -> list[str]:
    """A move as C.

    Args:
        move: what is moved.
        read_at: where what it reads lies.
        to: where what it writes lies.
    """
    if not move.to.size:
        return []
    match move:
        case Copy():
            lines = [_walk_line("walk", ("from",), (move.x, move.to))]
            call = f"irbin_copy(&walk, {read_at[0]}, {to});"
        case Meeting():
            lines = [_walk_line("walk", ("from", "other"), (*move.arrays, move.to))]
            what = f"IRBIN_OF_{move.operation}, {float_literal(move.factor)}"
            call = f"irbin_meet(&walk, {what}, {read_at[0]}, {read_at[1]}, {to});"
        case Fold():
            lines, how = _fold_lines(move)
            call = f"irbin_fold(&walk, &terms, {how}, {read_at[0]}, {to});"
        case Product():
            lines = [_product_line(move)]
            call = f"irbin_matmul(&product, {read_at[0]}, {read_at[1]}, {to});"
        case Soft():
            (x,) = move.arrays
            first = [np.moveaxis(array, move.axis, 0)[0] for array in (x, move.to)]
            steps = ", ".join(str(array.strides[move.axis] // 4) for array in (x, move.to))
            lines = [_walk_line("walk", ("from",), first)]
            call = f"irbin_softmax(&walk, {x.shape[move.axis]}, {steps}, {read_at[0]}, {to});"
    return ["{", *(f"    {line}" for line in lines), f"    {call}", "}"]


def _fold_lines(move: Fold) -> tuple[list[str], str]:
    """The walks of a fold, and what it is."""
    (x,) = move.arrays
    first = [
        np.moveaxis(one, move.axes, range(len(move.axes)))[(0,) * len(move.axes)]
        for one in (x, move.to)
    ]
    sizes, steps = in_order(
        [x.shape[axis] for axis in move.axes], [x.strides[axis] for axis in move.axes]
    )
    fields = ", ".join(
        f".{name} = {{{', '.join(map(str, of))}}}"
        for name, of in (("size", sizes), ("from", steps))
    )
    terms = f"static const irbin_walk terms = {{.axes = {len(sizes)}, {fields}}};"
    lines = [_walk_line("walk", ("from",), first), terms]
    return lines, f"IRBIN_FOLD_{move.folding.upper()}, {float_literal(move.divisor)}"


def _walk_line(name: str, read: Sequence[str], arrays: Sequence[Array]) -> str:
    return f"static const irbin_walk {name} = {_walk(read, arrays)};"


def _walk(read: Sequence[str], arrays: Sequence[Array]) -> str:
    """How arrays of one shape are walked over together, the last of them written."""
    sizes, steps = walked(*arrays)
    if len(sizes) > MAX_COPY_AXES:
        raise LowerError(f"expected at most {MAX_COPY_AXES} axes, got {len(sizes)}")
    fields = [("size", sizes), *zip((*read, "to"), steps, strict=True)]
    written = ", ".join(f".{name} = {{{', '.join(map(str, of))}}}" for name, of in fields)
    return f"{{.axes = {len(sizes)}, {written}}}"


def _product_line(move: Product) -> str:
    a, b = move.arrays
    walk = _walk(("from", "other"), batches((a, b, move.to), move.to.shape[:-2]))
    sizes = dict(zip(("rows", "depth", "columns"), (*a.shape[-2:], b.shape[-1]), strict=True))
    for name, array in (("a", a), ("b", b), ("to", move.to)):
        names = {"a": ("row", "depth"), "b": ("depth", "column"), "to": ("row", "column")}[name]
        for axis, along in zip((-2, -1), names, strict=True):
            sizes[f"{name}_{along}"] = array.strides[axis] // 4
    fields = ", ".join(f".{name} = {value}" for name, value in sizes.items())
    return f"static const irbin_product product = {{.walk = {walk}, {fields}}};"
