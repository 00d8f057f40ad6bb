"""Operators that move numbers or make them of nothing, in ONNX."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from irbin.bounds import TO_THE_END
from irbin.onnx.call import Call
from irbin.onnx.graph import Unwritable
from irbin.program.types import Ref

Rule = Callable[[Call], str | tuple[str, ...]]


def _reshape(call: Call) -> str:
    return call.graph.reshaped(call.tensor(), call.type.shape)


def _permute(call: Call) -> str:
    dims, rank = call.number("dims"), call.rank()
    return call.graph.add("Transpose", call.tensor(), perm=[axis % rank for axis in dims])


def _transpose(call: Call) -> str:
    order = list(range(call.rank()))
    if not order:
        return call.tensor()
    a, b = call.axis("dim0"), call.axis("dim1")
    order[a], order[b] = order[b], order[a]
    return call.graph.add("Transpose", call.tensor(), perm=order)


def _unsqueeze(call: Call) -> str:
    axis = call.axis("dim", n_axes=call.rank() + 1)
    return call.graph.add("Unsqueeze", call.tensor(), call.graph.integers([axis]))


def _squeeze(call: Call) -> str:
    sizes = call.sizes()
    axes = [axis for axis in call.axes() if sizes[axis] == 1] if sizes else []
    if not axes:
        return call.tensor()
    return call.graph.add("Squeeze", call.tensor(), call.graph.integers(axes))


def _expand(call: Call) -> str:
    return call.graph.add("Expand", call.tensor(), call.graph.shape(call.type.shape))


def _slice(call: Call) -> str:
    axis, start, end = call.axis(), call.number("start"), call.number("end")
    step = call.number("step", 1)
    end = TO_THE_END if end is None else end
    return call.graph.sliced(call.tensor(), axis, start or 0, end, step)


def _select(call: Call) -> str:
    index = call.graph.constant(call.number("index"), "int64")
    return call.graph.add("Gather", call.tensor(), index, axis=call.axis())


def _cat(call: Call) -> str:
    refs = [ref for ref in call.refs("tensors") if call.kind_of(ref).shape != (0,)]
    axis = call.axis("dim", n_axes=len(call.type.shape))
    parts = [call.value_of(ref, call.type.dtype) for ref in refs]
    return call.graph.add("Concat", *parts, axis=axis)


def _stack(call: Call) -> str:
    axis = call.axis("dim", n_axes=len(call.type.shape))
    place = call.graph.integers([axis])
    parts = [
        call.graph.add("Unsqueeze", call.value_of(ref, call.type.dtype), place)
        for ref in call.refs("tensors")
    ]
    return call.graph.add("Concat", *parts, axis=axis)


def _split(call: Call) -> tuple[str, ...]:
    assert isinstance(call.node.type, tuple), "the operator gives several"
    axis = call.axis()
    lengths = [kind.shape[axis] for kind in call.node.type]
    if not all(isinstance(length, int) for length in lengths):
        raise Unwritable("it divides the images")
    return _parts(call, axis, [int(length) for length in lengths])


def _parts(call: Call, axis: int, lengths: Sequence[int]) -> tuple[str, ...]:
    given = call.graph.integers(lengths)
    return call.graph.several("Split", call.tensor(), given, count=len(lengths), axis=axis)


def _unbind(call: Call) -> tuple[str, ...]:
    axis = call.axis()
    place = call.graph.integers([axis])
    parts = _parts(call, axis, [1] * call.static("self", axis))
    return tuple(call.graph.add("Squeeze", part, place) for part in parts)


def _repeat(name: str) -> Rule:
    def rule(call: Call) -> str:
        times, rank = call.number(name), call.rank()
        if not all(isinstance(one, int) for one in times):
            missing = len(times) - rank
            if missing < 0 or any(size != 1 for size in call.sizes()):
                raise Unwritable(f"`{name}` depends on the images")
            return call.graph.add("Expand", call.tensor(), call.graph.shape(call.type.shape))
        times = (1,) * (rank - len(times)) + tuple(times)
        x = call.tensor()
        if len(times) > rank:
            ahead = call.graph.integers(range(len(times) - rank))
            x = call.graph.add("Unsqueeze", x, ahead)
        return call.graph.add("Tile", x, call.graph.integers(times))

    return rule


def _repeat_interleave(call: Call) -> str:
    times, axis = call.number("repeats"), call.axis()
    if call.number("dim") is None:
        raise Unwritable("all axes at once")
    shape = [*call.sizes()]
    shape[axis : axis + 1] = [shape[axis], times]
    place = call.graph.integers([axis + 1])
    x = call.graph.add("Unsqueeze", call.tensor(), place)
    x = call.graph.add("Expand", x, call.graph.shape(shape))
    return call.graph.reshaped(x, call.type.shape)


def _flip(call: Call) -> str:
    x = call.tensor()
    for axis in call.axes("dims"):
        x = call.graph.sliced(x, axis, -1, -TO_THE_END, -1)
    return x


def _roll(call: Call) -> str:
    shifts, dims = call.number("shifts"), call.number("dims", ())
    if not dims or not all(isinstance(one, int) for one in shifts):
        raise Unwritable("all axes at once, or by sizes that depend on the images")
    x = call.tensor()
    for shift, dim in zip(shifts, dims, strict=True):
        axis = dim % call.rank()
        at = call.static("self", axis) - shift % max(call.static("self", axis), 1)
        ahead = call.graph.sliced(x, axis, at, TO_THE_END)
        x = call.graph.add("Concat", ahead, call.graph.sliced(x, axis, 0, at), axis=axis)
    return x


def _index(call: Call) -> str:
    """One index tensor, along one axis."""
    indices = call.given["indices"]
    placed = [(axis, one) for axis, one in enumerate(indices) if one is not None]
    if len(placed) != 1 or call.kind_of(placed[0][1]).dtype not in ("int64", "int32"):
        raise Unwritable("several indices at once, or a mask")
    axis, index = placed[0]
    return call.graph.add("Gather", call.tensor(), call.value_of(index), axis=axis)


def _embedding(call: Call) -> str:
    return call.graph.add("Gather", call.tensor("weight"), call.tensor("indices"), axis=0)


def _scattered(call: Call) -> str:
    """A part replaced: what stands before it, the part, what stands behind it."""
    axis, part = call.axis(), call.tensor("src", call.type.dtype)
    if call.sizes("src") == call.sizes():
        return part
    size, x = call.static("self", axis), call.tensor()
    if "select" in call.node.op:
        start = call.number("index") % size
        end, step = start + 1, 1
        part = call.graph.add("Unsqueeze", part, call.graph.integers([axis]))
    else:
        bounds = slice(call.number("start"), call.number("end"), call.number("step", 1))
        start, end, step = bounds.indices(size)
        end = max(start, end)
    if step != 1:
        raise Unwritable(f"every {step}th place")
    parts = [call.graph.sliced(x, axis, 0, start)] if start else []
    parts += [part] if end > start else []
    parts += [call.graph.sliced(x, axis, end, size)] if end < size else []
    return parts[0] if len(parts) == 1 else call.graph.add("Concat", *parts, axis=axis)


def _filled(value: float | str) -> Rule:
    """Equal numbers in the result's shape; `value` is one, or the argument's name."""

    def rule(call: Call) -> str:
        number = call.given[value] if isinstance(value, str) else value
        if isinstance(number, Ref):
            one = call.operand(str(value), call.type.dtype)
        else:
            one = call.scalar(number, call.type.dtype)
        return call.graph.add("Expand", one, call.graph.shape(call.type.shape))

    return rule


def _unfold(call: Call) -> str:
    """Windows along an axis, gathered; each a new last axis."""
    axis, size, step = call.axis("dimension"), call.number("size"), call.number("step")
    count = (call.static("self", axis) - size) // step + 1
    places = np.arange(count)[:, None] * step + np.arange(size)
    x = call.graph.add("Gather", call.tensor(), call.graph.constant(places, "int64"), axis=axis)
    order = [a for a in range(call.rank() + 1) if a != axis + 1]
    return call.graph.add("Transpose", x, perm=[*order, axis + 1])


RULES: dict[str, Rule] = {
    "aten.cat.default": _cat,
    "aten.embedding.default": _embedding,
    "aten.expand.default": _expand,
    "aten.fill.Scalar": _filled("value"),
    "aten.fill.Tensor": _filled("value"),
    "aten.flip.default": _flip,
    "aten.full.default": _filled("fill_value"),
    "aten.full_like.default": _filled("fill_value"),
    "aten.index.Tensor": _index,
    "aten.new_zeros.default": _filled(0),
    "aten.ones.default": _filled(1),
    "aten.ones_like.default": _filled(1),
    "aten.permute.default": _permute,
    "aten.repeat.default": _repeat("repeats"),
    "aten.repeat_interleave.self_int": _repeat_interleave,
    "aten.reshape.default": _reshape,
    "aten.roll.default": _roll,
    "aten.select.int": _select,
    "aten.select_scatter.default": _scattered,
    "aten.slice.Tensor": _slice,
    "aten.slice_scatter.default": _scattered,
    "aten.split.Tensor": _split,
    "aten.split_with_sizes.default": _split,
    "aten.squeeze.dim": _squeeze,
    "aten.squeeze.dims": _squeeze,
    "aten.stack.default": _stack,
    "aten.tile.default": _repeat("dims"),
    "aten.transpose.int": _transpose,
    "aten.unbind.int": _unbind,
    "aten.unfold.default": _unfold,
    "aten.unsqueeze.default": _unsqueeze,
    "aten.zero.default": _filled(0),
    "aten.zeros.default": _filled(0),
    "aten.zeros_like.default": _filled(0),
}
"""By operator."""
