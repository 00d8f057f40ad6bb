"""Matrix products, attention, norms and what sums up, in ONNX."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from irbin.onnx.call import Call
from irbin.onnx.graph import Unwritable

Rule = Callable[[Call], str | tuple[str | None, ...]]


def _linear(call: Call) -> str:
    x, weight = call.tensor("input"), call.tensor("weight")
    bias = [call.tensor("bias")] if call.has("bias") else []
    if call.rank("input") == 2:
        return call.graph.add("Gemm", x, weight, *bias, transB=1)
    turned = call.graph.add("Transpose", weight, perm=[1, 0])
    result = call.graph.add("MatMul", x, turned)
    return call.graph.add("Add", result, *bias) if bias else result


def _matmul(other: str) -> Rule:
    return lambda call: call.graph.add("MatMul", call.tensor(), call.tensor(other))


def _addmm(call: Call) -> str:
    factors = {name: float(call.number(name, 1)) for name in ("alpha", "beta")}
    read = (call.tensor("mat1"), call.tensor("mat2"), call.tensor())
    return call.graph.add("Gemm", *read, **factors)


def _einsum(call: Call) -> str:
    tensors = [call.value_of(ref) for ref in call.refs("tensors")]
    return call.graph.add("Einsum", *tensors, equation=call.number("equation"))


def _attention(call: Call) -> str:
    if call.number("enable_gqa", False):
        raise Unwritable("`enable_gqa`")
    graph, rank = call.graph, call.rank("query")
    order = [*range(rank - 2), rank - 1, rank - 2]
    scale = call.number("scale")
    scale = 1 / math.sqrt(call.static("query", -1)) if scale is None else scale
    query = graph.add("Mul", call.tensor("query"), call.scalar(scale))
    keys = graph.add("Transpose", call.tensor("key"), perm=order)
    scores = graph.add("MatMul", query, keys)
    mask = _mask(call)
    scores = scores if mask is None else graph.add("Add", scores, mask)
    return graph.add("MatMul", graph.add("Softmax", scores, axis=-1), call.tensor("value"))


def _mask(call: Call) -> str | None:
    """What is added to the scores."""
    if call.number("is_causal", False):
        shape = call.static("query", -2), call.static("key", -2)
        return call.graph.constant(np.triu(np.full(shape, -np.inf, np.float32), 1))
    if not call.has("attn_mask"):
        return None
    mask = call.tensor("attn_mask")
    if call.kind("attn_mask").dtype != "bool":
        return mask
    return call.graph.add("Where", mask, call.scalar(0.0), call.scalar(-math.inf))


def _softmax(op: str) -> Rule:
    return lambda call: call.graph.add(op, call.tensor("self", call.type.dtype), axis=call.axis())


def _reduced(op: str) -> Rule:
    """Reductions that take their axes as an attribute."""

    def rule(call: Call) -> str:
        keeps = int(call.number("keepdim", False))
        x = call.tensor("self", call.type.dtype)
        axes = call.axes() if "dim" in call.given else list(range(call.rank()))
        return call.graph.add(op, x, axes=axes, keepdims=keeps) if call.rank() else x

    return rule


def _sum(call: Call) -> str:
    keeps = int(call.number("keepdim", False))
    x = call.tensor("self", call.type.dtype)
    axes = call.axes() if "dim" in call.given else list(range(call.rank()))
    return call.graph.add("ReduceSum", x, call.graph.integers(axes), keepdims=keeps)


def _max_dim(call: Call) -> tuple[str | None, ...]:
    return str(_reduced("ReduceMax")(call)), None


def _spread(call: Call, root: bool, with_mean: bool) -> tuple[str, str]:
    """Variance or deviation, and mean, of `dim`."""
    graph, axes, x = call.graph, call.axes(), call.tensor()
    keeps = int(call.number("keepdim", False))
    correction = call.number("correction", 1)
    correction = int(call.number("unbiased", True)) if "unbiased" in call.given else correction
    correction = 1 if correction is None else correction
    count = math.prod(call.static("self", axis) for axis in axes)
    mean = graph.add("ReduceMean", x, axes=axes, keepdims=1)
    rest = graph.add("Sub", x, mean)
    square = graph.add("ReduceMean", graph.add("Mul", rest, rest), axes=axes, keepdims=keeps)
    if correction:
        if count <= correction:
            raise Unwritable(f"the deviation of {count} numbers")
        square = graph.add("Mul", square, call.scalar(count / (count - correction)))
    result = graph.add("Sqrt", square) if root else square
    if with_mean and not keeps:
        mean = graph.add("Squeeze", mean, graph.integers(axes))
    return result, mean


def _var_mean(call: Call) -> tuple[str, ...]:
    return _spread(call, root=False, with_mean=True)


def _vector_norm(call: Call) -> str:
    known = {1: "ReduceL1", 2: "ReduceL2"}
    order = call.number("ord", 2)
    if order not in known:
        raise Unwritable(f"a norm of order {order}")
    return str(_reduced(known[order])(call))


def _cumsum(call: Call) -> str:
    place = call.graph.constant(call.axis(), "int64")
    return call.graph.add("CumSum", call.tensor("self", call.type.dtype), place)


def _layer_norm(call: Call) -> str:
    n_axes = len(call.number("normalized_shape"))
    shape = [call.static("input", axis) for axis in range(-n_axes, 0)]
    if call.has("weight"):
        weight = call.tensor("weight")
    else:
        weight = call.graph.constant(np.ones(shape, np.float32))
    bias = [call.tensor("bias")] if call.has("bias") else []
    return call.graph.add(
        "LayerNormalization",
        call.tensor("input"),
        weight,
        *bias,
        axis=-n_axes,
        epsilon=float(call.number("eps", 1e-5)),
    )


def _group_norm(call: Call) -> str:
    """Groups as channels of an instance norm, then what each channel does."""
    graph, groups = call.graph, call.number("num_groups")
    images, channels, *rest = call.sizes("input")
    if not isinstance(channels, int):
        raise Unwritable("channels that depend on the batch")
    inner = math.prod(call.static("input", axis) for axis in range(2, 2 + len(rest)))
    x = graph.reshaped(call.tensor("input"), (images, groups, channels // groups * inner))
    ones, zeros = (graph.constant(f(groups, np.float32)) for f in (np.ones, np.zeros))
    eps = float(call.number("eps", 1e-5))
    x = graph.add("InstanceNormalization", x, ones, zeros, epsilon=eps)
    x = graph.reshaped(x, call.type.shape)
    for name, op in (("weight", "Mul"), ("bias", "Add")):
        if call.has(name):
            shape = (channels, *(1,) * len(rest))
            array = call.arrays.get(call.given[name].name)
            if array is None:
                raise Unwritable(f"`{name}` depends on the images")
            x = graph.add(op, x, graph.constant(array.reshape(shape)))
    return x


def _rms_norm(call: Call) -> str:
    graph, x = call.graph, call.tensor("input")
    axes = list(range(-len(call.number("normalized_shape")), 0))
    eps = call.number("eps")
    square = graph.add("ReduceMean", graph.add("Mul", x, x), axes=axes, keepdims=1)
    eps = float(np.finfo(np.float32).eps) if eps is None else eps
    root = graph.add("Sqrt", graph.add("Add", square, call.scalar(eps)))
    result = graph.add("Div", x, root)
    return graph.add("Mul", result, call.tensor("weight")) if call.has("weight") else result


def _glu(call: Call) -> str:
    axis = call.axis("dim", -1)
    half = call.static("self", axis) // 2
    lengths = call.graph.integers([half, half])
    a, b = call.graph.several("Split", call.tensor(), lengths, count=2, axis=axis)
    return call.graph.add("Mul", a, call.graph.add("Sigmoid", b))


RULES: dict[str, Rule] = {
    "aten.addmm.default": _addmm,
    "aten.amax.default": _reduced("ReduceMax"),
    "aten.amin.default": _reduced("ReduceMin"),
    "aten.bmm.default": _matmul("mat2"),
    "aten.cumsum.default": _cumsum,
    "aten.einsum.default": _einsum,
    "aten.glu.default": _glu,
    "aten.group_norm.default": _group_norm,
    "aten.layer_norm.default": _layer_norm,
    "aten.linalg_vector_norm.default": _vector_norm,
    "aten.linear.default": _linear,
    "aten.log_softmax.int": _softmax("LogSoftmax"),
    "aten.matmul.default": _matmul("other"),
    "aten.max.dim": _max_dim,
    "aten.mean.default": _reduced("ReduceMean"),
    "aten.mean.dim": _reduced("ReduceMean"),
    "aten.mm.default": _matmul("mat2"),
    "aten.rms_norm.default": _rms_norm,
    "aten.scaled_dot_product_attention.default": _attention,
    "aten.softmax.int": _softmax("Softmax"),
    "aten.std.dim": lambda call: _spread(call, root=True, with_mean=False)[0],
    "aten.sum.default": _sum,
    "aten.sum.dim_IntList": _sum,
    "aten.var.correction": lambda call: _spread(call, root=False, with_mean=False)[0],
    "aten.var.dim": lambda call: _spread(call, root=False, with_mean=False)[0],
    "aten.var_mean.correction": _var_mean,
}
"""By operator."""
