"""Operators that work on numbers one by one, in ONNX."""

from __future__ import annotations

import math
from typing import Any

from irbin.onnx.call import Call, Rule
from irbin.onnx.graph import Unwritable
from irbin.program.types import INT, Ref


def _same(op: str, **attributes: Any) -> Rule:
    return lambda call: call.graph.add(op, call.tensor("self", _floating(call)), **attributes)


def _floating(call: Call) -> str:
    return call.type.dtype


def _binary(op: str) -> Rule:
    def rule(call: Call) -> str:
        dtype = call.type.dtype
        other = call.operand("other", dtype)
        alpha = call.number("alpha", 1)
        if alpha != 1:
            other = call.graph.add("Mul", other, call.scalar(alpha, dtype))
        return call.graph.add(op, call.tensor("self", dtype), other)

    return rule


def _compared(op: str, negated: bool = False) -> Rule:
    def rule(call: Call) -> str:
        dtype = _joint(call)
        result = call.graph.add(op, call.tensor("self", dtype), call.operand("other", dtype))
        return call.graph.add("Not", result) if negated else result

    return rule


def _joint(call: Call) -> str:
    """The element type in which two operands meet."""
    mine, other = call.kind().dtype, call.given["other"]
    if isinstance(other, Ref) and call.kind_of(other).dtype != INT:
        kinds = {mine, call.kind_of(other).dtype}
        return mine if len(kinds) == 1 else "float32" if "float32" in kinds else "int64"
    if isinstance(other, float) and not mine.startswith(("float", "bfloat")):
        return "float32"
    return "int32" if mine == "bool" else mine


def _logical(op: str) -> Rule:
    def rule(call: Call) -> str:
        if call.kind().dtype != "bool" or call.type.dtype != "bool":
            raise Unwritable("bits of whole numbers")
        if op == "Not":
            return call.graph.add(op, call.tensor())
        return call.graph.add(op, call.tensor(), call.operand("other", "bool"))

    return rule


def _rsub(call: Call) -> str:
    dtype, alpha = call.type.dtype, call.number("alpha", 1)
    x = call.tensor("self", dtype)
    x = x if alpha == 1 else call.graph.add("Mul", x, call.scalar(alpha, dtype))
    return call.graph.add("Sub", call.operand("other", dtype), x)


def _div_mode(call: Call) -> str:
    mode = call.number("rounding_mode")
    if mode is not None and not call.type.dtype.startswith("float"):
        raise Unwritable("a division of whole numbers")
    result = _binary("Div")(call)
    if mode == "floor":
        return call.graph.add("Floor", result)
    if mode == "trunc":
        size = call.graph.add("Floor", call.graph.add("Abs", result))
        return call.graph.add("Mul", call.graph.add("Sign", result), size)
    return result


def _floor_divide(call: Call) -> str:
    if not call.type.dtype.startswith("float"):
        raise Unwritable("a division of whole numbers")
    return call.graph.add("Floor", _binary("Div")(call))


def _remainder(call: Call) -> str:
    dtype = call.type.dtype
    x, by = call.tensor("self", dtype), call.operand("other", dtype)
    if not dtype.startswith("float"):
        return call.graph.add("Mod", x, by)
    whole = call.graph.add("Floor", call.graph.add("Div", x, by))
    return call.graph.add("Sub", x, call.graph.add("Mul", whole, by))


def _addcmul(call: Call) -> str:
    dtype, value = call.type.dtype, call.number("value", 1)
    product = call.graph.add("Mul", call.tensor("tensor1", dtype), call.tensor("tensor2", dtype))
    if value != 1:
        product = call.graph.add("Mul", product, call.scalar(value, dtype))
    return call.graph.add("Add", call.tensor("self", dtype), product)


def clamped(call: Call, x: str, least: Any, most: Any) -> str:
    """x within bounds, either of which may be None."""
    dtype = call.type.dtype
    if least is not None:
        x = call.graph.add("Max", x, call.scalar(least, dtype))
    if most is not None:
        x = call.graph.add("Min", x, call.scalar(most, dtype))
    return x


def _clamp(call: Call) -> str:
    x = call.tensor("self", call.type.dtype)
    return clamped(call, x, call.number("min"), call.number("max"))


def _clamp_tensor(call: Call) -> str:
    dtype = call.type.dtype
    x = call.tensor("self", dtype)
    for name, op in (("min", "Max"), ("max", "Min")):
        if call.has(name):
            x = call.graph.add(op, x, call.tensor(name, dtype))
    return x


def _hardtanh(call: Call) -> str:
    return clamped(call, call.tensor(), call.number("min_val", -1), call.number("max_val", 1))


def _relu6(call: Call) -> str:
    return clamped(call, call.tensor(), 0, 6)


def _leaky_relu(call: Call) -> str:
    slope = float(call.number("negative_slope", 0.01))
    return call.graph.add("LeakyRelu", call.tensor(), alpha=slope)


def _prelu(call: Call) -> str:
    """Slopes lie along axis 1; ONNX wants them as they broadcast."""
    slope, rank = call.tensor("weight"), call.rank()
    given = call.given["weight"]
    n_slopes = call.static("weight", 0) if call.rank("weight") else 1
    array = call.arrays.get(given.name)
    if n_slopes == 1 or rank <= 2:
        return call.graph.add("PRelu", call.tensor(), slope)
    shape = (n_slopes, *(1,) * (rank - 2))
    if array is not None:
        slope = call.graph.constant(array.reshape(shape), name=f"{given.name}.slope")
    else:
        slope = call.graph.reshaped(slope, shape)
    return call.graph.add("PRelu", call.tensor(), slope)


def _silu(call: Call) -> str:
    x = call.tensor()
    return call.graph.add("Mul", x, call.graph.add("Sigmoid", x))


def _gelu(call: Call) -> str:
    """x/2 · (1 + erf(x/√2)), or its approximation by tanh."""
    graph, x = call.graph, call.tensor()
    if call.number("approximate", "none") == "tanh":
        cube = graph.add("Mul", graph.add("Mul", x, x), x)
        inner = graph.add("Add", x, graph.add("Mul", cube, call.scalar(0.044715)))
        part = graph.add("Tanh", graph.add("Mul", inner, call.scalar(math.sqrt(2 / math.pi))))
    else:
        part = graph.add("Erf", graph.add("Mul", x, call.scalar(math.sqrt(0.5))))
    half = graph.add("Mul", x, call.scalar(0.5))
    return graph.add("Mul", half, graph.add("Add", part, call.scalar(1.0)))


def _hardsigmoid(call: Call) -> str:
    return call.graph.add("HardSigmoid", call.tensor(), alpha=1 / 6, beta=0.5)


def _softplus(call: Call) -> str:
    beta, threshold = float(call.number("beta", 1)), float(call.number("threshold", 20))
    graph, x = call.graph, call.tensor()
    scaled = x if beta == 1 else graph.add("Mul", x, call.scalar(beta))
    soft = graph.add("Softplus", scaled)
    soft = soft if beta == 1 else graph.add("Div", soft, call.scalar(beta))
    return graph.add("Where", graph.add("Greater", scaled, call.scalar(threshold)), x, soft)


def _mish(call: Call) -> str:
    x = call.tensor()
    return call.graph.add("Mul", x, call.graph.add("Tanh", call.graph.add("Softplus", x)))


def _elu(call: Call) -> str:
    alpha, scale = float(call.number("alpha", 1)), float(call.number("scale", 1))
    if call.number("input_scale", 1) != 1:
        raise Unwritable("`input_scale`")
    result = call.graph.add("Elu", call.tensor(), alpha=alpha)
    return result if scale == 1 else call.graph.add("Mul", result, call.scalar(scale))


def _rsqrt(call: Call) -> str:
    root = call.graph.add("Sqrt", call.tensor("self", call.type.dtype))
    return call.graph.add("Reciprocal", root)


def _square(call: Call) -> str:
    x = call.tensor()
    return call.graph.add("Mul", x, x)


def _pow(call: Call) -> str:
    dtype = call.type.dtype
    base, exponent = call.operand("self", dtype), call.operand("exponent", dtype)
    return call.graph.add("Pow", base, exponent)


def _where(call: Call) -> str:
    dtype = call.type.dtype
    return call.graph.add(
        "Where",
        call.tensor("condition", "bool"),
        call.operand("self", dtype),
        call.operand("other", dtype),
    )


def _masked_fill(call: Call) -> str:
    dtype = call.type.dtype
    value = call.scalar(call.number("value"), dtype)
    return call.graph.add("Where", call.tensor("mask", "bool"), value, call.tensor())


def _cast(call: Call) -> str:
    return call.tensor("self", call.type.dtype)


def _copy(call: Call) -> str:
    return call.graph.add(
        "Expand", call.tensor("src", call.type.dtype), call.graph.shape(call.type.shape)
    )


_SAME = {
    "abs": "Abs",
    "ceil": "Ceil",
    "cos": "Cos",
    "erf": "Erf",
    "exp": "Exp",
    "floor": "Floor",
    "hardswish": "HardSwish",
    "log": "Log",
    "neg": "Neg",
    "reciprocal": "Reciprocal",
    "relu": "Relu",
    "round": "Round",
    "sigmoid": "Sigmoid",
    "sign": "Sign",
    "sin": "Sin",
    "sqrt": "Sqrt",
    "tanh": "Tanh",
}
_COMPARED = {
    "eq": ("Equal", False),
    "ge": ("GreaterOrEqual", False),
    "gt": ("Greater", False),
    "le": ("LessOrEqual", False),
    "lt": ("Less", False),
    "ne": ("Equal", True),
}

RULES: dict[str, Rule] = {
    **{f"aten.{name}.default": _same(op) for name, op in _SAME.items()},
    **{
        f"aten.{name}.{overload}": _compared(op, negated)
        for name, (op, negated) in _COMPARED.items()
        for overload in ("Scalar", "Tensor")
    },
    "aten._to_copy.default": _cast,
    "aten.add.Tensor": _binary("Add"),
    "aten.addcmul.default": _addcmul,
    "aten.bitwise_and.Tensor": _logical("And"),
    "aten.bitwise_not.default": _logical("Not"),
    "aten.bitwise_or.Tensor": _logical("Or"),
    "aten.clamp.Tensor": _clamp_tensor,
    "aten.clamp.default": _clamp,
    "aten.clamp_max.default": _clamp,
    "aten.clamp_min.default": _clamp,
    "aten.copy.default": _copy,
    "aten.div.Tensor": _binary("Div"),
    "aten.div.Tensor_mode": _div_mode,
    "aten.elu.default": _elu,
    "aten.floor_divide.default": _floor_divide,
    "aten.gelu.default": _gelu,
    "aten.hardsigmoid.default": _hardsigmoid,
    "aten.hardtanh.default": _hardtanh,
    "aten.leaky_relu.default": _leaky_relu,
    "aten.logical_and.default": _logical("And"),
    "aten.logical_not.default": _logical("Not"),
    "aten.logical_or.default": _logical("Or"),
    "aten.masked_fill.Scalar": _masked_fill,
    "aten.maximum.default": _binary("Max"),
    "aten.minimum.default": _binary("Min"),
    "aten.mish.default": _mish,
    "aten.mul.Tensor": _binary("Mul"),
    "aten.pow.Scalar": _pow,
    "aten.pow.Tensor_Scalar": _pow,
    "aten.pow.Tensor_Tensor": _pow,
    "aten.prelu.default": _prelu,
    "aten.relu6.default": _relu6,
    "aten.remainder.Scalar": _remainder,
    "aten.rsqrt.default": _rsqrt,
    "aten.rsub.Scalar": _rsub,
    "aten.silu.default": _silu,
    "aten.softplus.default": _softplus,
    "aten.square.default": _square,
    "aten.sub.Tensor": _binary("Sub"),
    "aten.type_as.default": _cast,
    "aten.where.ScalarOther": _where,
    "aten.where.ScalarSelf": _where,
    "aten.where.self": _where,
}
"""By operator."""
