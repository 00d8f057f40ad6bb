"""How large results get: shapes of the operators that may give more than they read.

A declared type is only a claim. Of an operator whose result is no larger than what it reads the
claim is held against the result, once it is there; of the others, which a line of a file could make
fill any memory, before anything runs: here, for one batch size, without torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from irbin.bounds import MAX_ELEMENTS, MAX_PRODUCTS
from irbin.program import sliding
from irbin.program.sized import Call, Misfit, Shape, Sized, axis_of, bounded
from irbin.program.types import shortened


def result_shape(op: str, given: Mapping[str, Any], n: int) -> Shape | None:
    """The shape of a result, or None for operators that give no more than they read.

    Args:
        op: of the vocabulary.
        given: its arguments by name: `Sized` for tensors, numbers, lists of these.
        n: images; bounds are for one.

    Raises:
        Misfit: the arguments fit no result, or one beyond the bounds.
    """
    name = op.removeprefix("aten.")
    rule = _RULES.get(name) or _RULES.get(name.partition(".")[0])
    if rule is None:
        return None
    call = Call(given, n)
    shape = rule(call)
    if shape is None:
        return None
    if any(size < 0 for size in shape):
        raise Misfit(f"a size below zero: {list(shape)}")
    bounded(call, math.prod(shape), MAX_ELEMENTS, "elements")
    return shape


def _broadcast(*shapes: Shape) -> Shape:
    n_axes = max(map(len, shapes))
    joint = []
    for sizes in zip(*((1,) * (n_axes - len(s)) + s for s in shapes), strict=True):
        others = {size for size in sizes if size != 1}
        if len(others) > 1:
            raise Misfit(f"shapes {', '.join(str(list(s)) for s in shapes)} do not go together")
        joint.append(others.pop() if others else 1)
    return tuple(joint)


def _elementwise(call: Call) -> Shape:
    shapes = [value.shape for value in call.given.values() if isinstance(value, Sized)]
    return _broadcast(*shapes)


def _sized(call: Call) -> Shape:
    return call.numbers("size")


def _arange(call: Call) -> Shape:
    start, end, step = (call.given.get(k, d) for k, d in (("start", 0), ("end", 0), ("step", 1)))
    if not all(isinstance(v, int | float) and math.isfinite(v) for v in (start, end, step)):
        raise Misfit("expected finite numbers")
    if step == 0 or (end - start) / step < 0:
        raise Misfit(f"no steps of {step} lead from {start} to {end}")
    return (math.ceil((end - start) / step),)


def _eye(call: Call) -> Shape:
    n = call.number("n")
    return n, call.number("m", n)


def _one_hot(call: Call) -> Shape:
    return (*call.shape("self"), call.number("num_classes", -1))


def _repeat(call: Call) -> Shape:
    shape, name = call.shape("self"), "repeats" if "repeats" in call.given else "dims"
    times = call.numbers(name)
    if len(times) < len(shape) and name == "repeats":
        raise Misfit(f"`repeats`: expected one number an axis, got {list(times)}")
    n_axes = max(len(times), len(shape))
    times = (1,) * (n_axes - len(times)) + times
    shape = (1,) * (n_axes - len(shape)) + shape
    return tuple(size * count for size, count in zip(shape, times, strict=True))


def _interleave(call: Call) -> Shape:
    shape, times = call.shape("self"), call.number("repeats")
    if call.given.get("dim") is None:
        return (math.prod(shape) * times,)
    axis = axis_of(call.number("dim"), len(shape))
    return (*shape[:axis], shape[axis] * times, *shape[axis + 1 :])


def _expand(call: Call) -> Shape:
    shape, wanted = call.shape("self"), call.numbers("size")
    shape = (1,) * (len(wanted) - len(shape)) + shape
    if len(shape) != len(wanted):
        raise Misfit(f"{list(call.shape('self'))} cannot be expanded to {list(wanted)}")
    expanded = tuple(s if w == -1 else w for s, w in zip(shape, wanted, strict=True))
    if any(s not in (1, f) for s, f in zip(shape, expanded, strict=True)):
        raise Misfit(f"{list(shape)} cannot be expanded to {list(wanted)}")
    return expanded


def _pad(call: Call) -> Shape:
    shape = list(call.shape("self"))
    pad = call.numbers("pad" if "pad" in call.given else "padding")
    if len(pad) % 2 or len(pad) > 2 * len(shape):
        raise Misfit(f"padding {list(pad)} of {len(shape)} axes")
    for i in range(len(pad) // 2):
        shape[-1 - i] += pad[2 * i] + pad[2 * i + 1]
    return tuple(shape)


def _resized(n_axes: int) -> Callable[[Call], Shape]:
    def rule(call: Call) -> Shape:
        shape = call.shape("self" if "self" in call.given else "input")
        if len(shape) < n_axes + 1:
            raise Misfit(f"expected more than {n_axes} axes, got {list(shape)}")
        inner = shape[-n_axes:]
        if call.given.get("output_size") is not None:
            return (*shape[:-n_axes], *call.numbers("output_size", n_axes))
        factors = call.given.get("scale_factors") or ()
        if len(factors) != n_axes:
            raise Misfit(f"`scale_factors`: expected {n_axes} numbers, got {len(factors)}")
        pairs = zip(inner, factors, strict=True)
        return (*shape[:-n_axes], *(math.floor(size * float(f)) for size, f in pairs))

    return rule


def _cat(call: Call) -> Shape | None:
    shapes = [one.shape for one in call.given["tensors"]]
    if not shapes:
        raise Misfit("expected tensors, got none")
    shapes = [s for s in shapes if s != (0,)] or shapes  # torch skips those
    axis = axis_of(call.number("dim", 0), len(shapes[0]))
    if len({(*s[:axis], *s[axis + 1 :]) for s in shapes}) > 1 or len(set(map(len, shapes))) > 1:
        raise Misfit(f"shapes {', '.join(str(list(s)) for s in shapes[:4])} in one row")
    return (*shapes[0][:axis], sum(s[axis] for s in shapes), *shapes[0][axis + 1 :])


def _stack(call: Call) -> Shape:
    shapes = [one.shape for one in call.given["tensors"]]
    if len(set(shapes)) != 1:
        raise Misfit("expected tensors of one shape")
    axis = axis_of(call.number("dim", 0), len(shapes[0]) + 1)
    return (*shapes[0][:axis], len(shapes), *shapes[0][axis:])


def _meshgrid(call: Call) -> Shape | None:
    total = math.prod(math.prod(one.shape) for one in call.given["tensors"])
    bounded(call, total, MAX_ELEMENTS, "elements")
    return None  # several results, whose types are looked at when they are there


def _embedding(call: Call) -> Shape:
    weight = call.shape("weight")
    if len(weight) != 2:
        raise Misfit(f"`weight`: expected 2 axes, got {list(weight)}")
    return (*call.shape("indices"), weight[1])


def _index(call: Call) -> Shape | None:
    shape, given = call.shape("self"), call.given["indices"]
    indices = [one.shape for one in given if one is not None]
    if len(given) > len(shape) or not indices:
        raise Misfit(f"{len(given)} indices of {list(shape)}")
    rest = [size for axis, size in enumerate(shape) if axis >= len(given) or given[axis] is None]
    bounded(call, math.prod(_broadcast(*indices)) * math.prod(rest), MAX_ELEMENTS, "elements")
    return None  # a mask gives as much as is true in it


def _matmul(call: Call) -> Shape:
    a, b = call.shape("self"), call.shape("other" if "other" in call.given else "mat2")
    return _product(call, a, b)


def _product(call: Call, a: Shape, b: Shape) -> Shape:
    if not a or not b:
        raise Misfit("a product of a single number")
    rows, columns = a[-2:-1], b[-1:] if len(b) > 1 else ()
    inner = b[-2] if len(b) > 1 else b[-1]
    if a[-1] != inner:
        raise Misfit(f"{list(a)} times {list(b)}")
    outer = _broadcast(a[:-2], b[:-2])
    result = (*outer, *rows, *columns)
    bounded(call, math.prod(result) * inner, MAX_PRODUCTS, "multiply-adds")
    return result


def _linear(call: Call) -> Shape:
    x, weight = call.shape("input"), call.shape("weight")
    return _product(call, x, weight[::-1] if len(weight) == 2 else weight)


def _addmm(call: Call) -> Shape:
    return _product(call, call.shape("mat1"), call.shape("mat2"))


def _attention(call: Call) -> Shape:
    query, key, value = (call.shape(name) for name in ("query", "key", "value"))
    if min(map(len, (query, key, value))) < 2:
        raise Misfit("expected at least 2 axes")
    scores = math.prod(query[:-1]) * key[-2]
    bounded(call, scores, MAX_ELEMENTS, "scores of an attention")
    return (*query[:-1], value[-1])


def _einsum(call: Call) -> Shape | None:
    equation, shapes = str(call.given["equation"]), [one.shape for one in call.given["tensors"]]
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if not arrow or "." in equation or len(terms) != len(shapes):
        raise Misfit(
            f"`equation`: expected letters for each axis and `->`, got {shortened(equation)}"
        )
    known: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        if len(term) != len(shape):
            raise Misfit(f"`equation`: `{term}` for {list(shape)}")
        for letter, size in zip(term, shape, strict=True):
            known[letter] = max(known.get(letter, 1), size)
    if not set(right) <= known.keys():
        raise Misfit(f"`equation`: `{right}` of `{left}`")
    bounded(call, math.prod(known.values()), MAX_PRODUCTS, "multiply-adds")
    if len(terms) > 2:  # what lies between is torch's choice
        bounded(call, math.prod(known.values()), MAX_ELEMENTS, "elements on the way")
    return tuple(known[letter] for letter in right)


def _lstm(call: Call) -> None:
    x, params = call.shape("input"), [one.shape for one in call.given["params"]]
    state = [one.shape for one in call.given["hx"]]
    layers, both = call.number("num_layers"), bool(call.given["bidirectional"])
    n_each = 4 if call.given["has_biases"] else 2
    if len(state) != 2 or len(params) != n_each * layers * (1 + both):
        raise Misfit(f"{len(state)} states and {len(params)} weights of {layers} layers")
    if len(x) != 3 or len(state[0]) != 3 or any(len(p) not in (1, 2) for p in params):
        raise Misfit(f"images {list(x)} and a state {list(state[0])}")
    hidden = max(p[0] for p in params)  # four gates
    bounded(call, math.prod(x[:2]) * hidden * (1 + both), MAX_ELEMENTS, "elements")


def _by_name(names: str, rule: Callable[[Call], Shape | None]) -> dict[str, Any]:
    return dict.fromkeys(names.split(), rule)


_RULES: dict[str, Callable[[Call], Shape | None]] = {
    **_by_name(
        "add addcmul bitwise_and bitwise_or clamp.Tensor div eq ge gt le lt ne floor_divide "
        "logical_and logical_or masked_fill maximum minimum mul pow rsub sub where",
        _elementwise,
    ),
    **_by_name("full zeros ones new_zeros", _sized),
    **_by_name("repeat tile", _repeat),
    **_by_name("constant_pad_nd pad reflection_pad2d replication_pad2d", _pad),
    **_by_name("adaptive_avg_pool1d upsample_linear1d", _resized(1)),
    **_by_name(
        "adaptive_avg_pool2d adaptive_max_pool2d upsample_bicubic2d upsample_bilinear2d "
        "upsample_nearest2d _upsample_bicubic2d_aa _upsample_bilinear2d_aa",
        _resized(2),
    ),
    **_by_name("matmul mm bmm", _matmul),
    "arange": _arange,
    "eye": _eye,
    "one_hot": _one_hot,
    "expand": _expand,
    "linspace": lambda call: (call.number("steps"),),
    "repeat_interleave": _interleave,
    "conv1d": sliding.conv(1),
    "conv2d": sliding.conv(2),
    "conv3d": sliding.conv(3),
    "conv_transpose2d": sliding.transposed,
    "avg_pool1d": sliding.pool(1),
    "avg_pool2d": sliding.pool(2),
    "avg_pool3d": sliding.pool(3),
    "max_pool2d": sliding.pool(2),
    "im2col": sliding.im2col,
    "col2im": sliding.col2im,
    "unfold": sliding.unfold,
    "cat": _cat,
    "stack": _stack,
    "meshgrid": _meshgrid,
    "embedding": _embedding,
    "index": _index,
    "linear": _linear,
    "addmm": _addmm,
    "einsum": _einsum,
    "lstm": _lstm,
    "scaled_dot_product_attention": _attention,
}
