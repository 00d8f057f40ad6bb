"""Which nodes are steps of an output transform, and along which axis their channels lie."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TypeGuard

from irbin.program.fused import ActivationStep, FusedStep, Item
from irbin.program.kept import KEPT, without_keeping
from irbin.program.own import BitPack
from irbin.program.types import Node, Ref, TensorType, Types, Value, ValueType, one_tensor

LARGEST_EXPONENT = 126
"""2 to the power of less than it, and one divided by that, are normal numbers of float32."""
LARGEST_FLOAT32 = (2 - 2**-23) * 2.0**127
ACTIVATION_STEPS: dict[str, ActivationStep] = {
    "aten.sigmoid.default": "sigmoid",
    "aten.silu.default": "silu",
    "aten.hardsigmoid.default": "hardsigmoid",
    "aten.hardswish.default": "hardswish",
    "aten.tanh.default": "tanh",
    "aten.mish.default": "mish",
}
"""Those without settings."""
KEPT_ACTIVATIONS = (*ACTIVATION_STEPS, "aten.gelu.default")
"""Those that a kernel computes with the sign of their input; others are left as they are."""
ARITHMETIC = {"aten.mul.Tensor": "mul", "aten.add.Tensor": "add", "aten.sub.Tensor": "sub"}


def as_step(
    node: Node, value: str, channel_axis: int, types: Types, constants: Collection[str]
) -> FusedStep | None:
    """The step that a node makes of `value`, or None if it is not one.

    Args:
        node: it reads `value` once.
        value: a float32 tensor.
        channel_axis: of `value`.
        types: what names stand for.
        constants: names whose values are known.
    """
    here = types[value]
    if node.type != here or not isinstance(here, TensorType):
        return None
    if node.op in ARITHMETIC:
        return _arithmetic(node, value, channel_axis, types, constants)
    if not node.args or node.args[0] != Ref(value):
        return None
    activation = _activation(node)
    if activation is not None:
        return activation
    if node.op == "aten.div.Tensor":
        return _divided(node)
    if node.op == "aten.prelu.default":
        slope = _given(node, 1, "weight", None)
        if isinstance(slope, Ref) and slope.name in constants:
            # torch's slope is a vector along axis 1, or one number
            one = TensorType("float32", (1,))
            vector = TensorType("float32", (here.shape[channel_axis],))
            fits = types[slope.name] in ((one, vector) if channel_axis == 1 else (one,))
            return FusedStep("prelu", slope.name) if fits else None
        return None
    if node.op == "aten.leaky_relu.default":
        slope = _given(node, 1, "negative_slope", 0.01)
        return FusedStep("prelu", float(slope)) if _is_float32(slope) else None
    bounds = _bounds(node)
    if bounds is None or not (_is_float32(bounds[0]) and _is_float32(bounds[1])):
        return None
    low, high = float(bounds[0]), float(bounds[1])
    return FusedStep("clamp", None, low, high) if low <= high else None


def channel_axis_of(
    value: str,
    types: Types,
    readers: Sequence[Item],
    constants: Collection[str],
    innermost: int | None = None,
) -> int | None:
    """Along which axis the reader of a float value sees channels: 1 of four axes, or the last.

    Args:
        value: its name.
        types: what names stand for.
        readers: of the value.
        constants: names whose values are known.
        innermost: the axis along which it lies in memory, if that is known; it is taken where the
            readers do not mind.

    Returns:
        None where nothing tells.
    """
    kind = types[value]
    if not isinstance(kind, TensorType):
        return None
    rank = len(kind.shape)
    usual: tuple[int, ...] = (1, 3) if rank == 4 else (rank - 1,)
    wanted = usual if innermost is None else (innermost, *usual)
    axes = [a for a in dict.fromkeys(wanted) if isinstance(kind.shape[a], int)]
    if not axes:
        return None  # channels that depend on the batch
    for reader in readers:
        if not isinstance(reader, Node):
            continue
        if reader.op == "bitpack":
            axis = BitPack.of(reader).channel_axis
            return axis if axis in axes else None
        for axis in axes:
            operand = _other(reader, value) if reader.op in ARITHMETIC else None
            name = operand.name if isinstance(operand, Ref) else ""
            if name in constants and _is_per_channel(types[name], kind, axis):
                return axis
    return axes[0]


def _activation(node: Node) -> FusedStep | None:
    """The step of a node with an exponential, an error function, or a torch rounding of its own."""
    if node.op == KEPT:
        inner = _activation(without_keeping(node))
        return None if inner is None else replace(inner, keeps_sign=True)
    if node.op in ACTIVATION_STEPS:
        is_plain = len(node.args) == 1 and not node.kwargs
        return FusedStep(ACTIVATION_STEPS[node.op]) if is_plain else None
    if node.op == "aten.gelu.default":
        form = _given(node, 1, "approximate", "none")
        return FusedStep("gelu_tanh" if form == "tanh" else "gelu")
    if node.op == "aten.elu.default":
        alpha, *scales = (
            _given(node, i, name, 1.0)
            for i, name in enumerate(("alpha", "scale", "input_scale"), start=1)
        )
        if _is_float32(alpha) and all(scale == 1 for scale in scales):
            return FusedStep("elu", float(alpha))
    return None


def _arithmetic(
    node: Node, value: str, channel_axis: int, types: Types, constants: Collection[str]
) -> FusedStep | None:
    """x·c, x + c, x − c, x + y."""
    operation, here = ARITHMETIC[node.op], one_tensor(types[value])
    if any(v != 1 for v in node.kwargs.values()) or len(node.args) != 2:
        return None  # a factor alpha
    operand = _other(node, value)
    if operation == "sub" and node.args[0] != Ref(value):
        return None
    kind = {"mul": "multiply", "add": "add", "sub": "subtract"}[operation]
    if _is_number(operand):
        return FusedStep(kind, float(operand))  # type: ignore[arg-type]  # one of the three
    if not isinstance(operand, Ref):
        return None
    if operand.name in constants:
        if _is_per_channel(types[operand.name], here, channel_axis):
            return FusedStep(kind, operand.name)  # type: ignore[arg-type]  # as above
        return None
    if operation == "add" and types[operand.name] == here:
        return FusedStep("residual", operand.name)
    return None


def _divided(node: Node) -> FusedStep | None:
    """x / c as a product, where that is the same number: c is a power of two."""
    divisor = node.args[1] if len(node.args) == 2 and not node.kwargs else None
    if not _is_number(divisor) or not math.isfinite(divisor) or not divisor:
        return None
    mantissa, exponent = math.frexp(divisor)
    is_power = abs(mantissa) == 0.5 and abs(exponent) < LARGEST_EXPONENT
    return FusedStep("multiply", 1 / divisor) if is_power else None


def _other(node: Node, value: str) -> Value:
    """The operand of a product or sum that is not `value`."""
    first, second = (*node.args, None, None)[:2]
    return second if first == Ref(value) else first


def _is_per_channel(constant: ValueType, value: TensorType, channel_axis: int) -> bool:
    """Whether a constant has one number per channel, or one for all, and broadcasts so."""
    if not isinstance(constant, TensorType) or constant.dtype != "float32":
        return False
    rank = len(value.shape)
    padded = (1,) * (rank - len(constant.shape)) + constant.shape
    n_channels = value.shape[channel_axis]
    return len(padded) == rank and all(
        size == 1 or (axis == channel_axis and size == n_channels)
        for axis, size in enumerate(padded)
    )


def _bounds(node: Node) -> tuple[Value, Value] | None:
    """What an activation clamps to."""
    match node.op:
        case "aten.relu.default":
            return 0.0, math.inf
        case "aten.relu6.default":
            return 0.0, 6.0
        case "aten.hardtanh.default":
            return _given(node, 1, "min_val", -1.0), _given(node, 2, "max_val", 1.0)
        case "aten.clamp.default":
            low, high = _given(node, 1, "min", None), _given(node, 2, "max", None)
            if low is None and high is None:
                return None  # torch refuses
            return -math.inf if low is None else low, math.inf if high is None else high
        case "aten.clamp_min.default":
            return _given(node, 1, "min", None), math.inf
        case "aten.clamp_max.default":
            return -math.inf, _given(node, 1, "max", None)
    return None


def _given(node: Node, position: int, name: str, default: Value) -> Value:
    if len(node.args) > position:
        return node.args[position]
    return node.kwargs.get(name, default)


def _is_float32(value: Value) -> TypeGuard[int | float]:
    """A number that torch takes for a bound or a slope: it refuses what only a double can hold."""
    return _is_number(value) and (math.isinf(value) or abs(value) <= LARGEST_FLOAT32)


def _is_number(value: Value) -> TypeGuard[int | float]:
    """A number that float32 holds as a double would (NaN bounds are left to torch)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value
