"""What must hold for a program to mean anything: calls fit their operators, bits have their places.

Called once, when a `Program` is made, so a lowered and a read program are held to the same rules.
ATen's own shape rules are left to torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from irbin.bits import packed_bytes
from irbin.bounds import MAX_DEPTH_BITS, MAX_ELEMENTS, MAX_INTEGER, MAX_PRODUCTS, MAX_REACH
from irbin.program.arguments import argument_problem
from irbin.program.types import (
    Dtype,
    Node,
    Ref,
    TensorType,
    Types,
    Value,
    in_text,
    shortened,
)
from irbin.program.vocabulary import OWN_OPERATORS, signatures


def node_problem(node: Node, types: Types, constants: Types) -> str | None:
    """What is wrong with a node, in words, or None.

    Args:
        node: a node whose references are all defined.
        types: of everything defined before it.
        constants: those of them that are in the file.
    """
    problem = _call_problem(node, types)
    if problem is not None or node.op not in OWN_OPERATORS:
        return problem
    if node.kwargs:
        return f"`{node.op}` takes its arguments by position"
    names = [argument.name for argument in signatures()[node.op]]
    given = dict(zip(names, node.args, strict=True))
    try:
        expected = RESULTS[node.op](_Call(node.op, given, types, constants))
    except _Misfit as misfit:
        return str(misfit)
    if node.type != expected:
        return f"`{node.op}` gives {expected}, but {in_text(node.type)} is declared"
    return None


def _call_problem(node: Node, types: Types) -> str | None:
    op, arguments = node.op, signatures().get(node.op)
    if arguments is None:
        return f"operator {shortened(op)} is not one of those a program may name"
    if len(node.args) > len(arguments):
        return f"`{op}` takes at most {len(arguments)} arguments, got {len(node.args)}"
    given: dict[str, Value] = {a.name: v for a, v in zip(arguments, node.args, strict=False)}
    known = {a.name for a in arguments}
    for name, value in node.kwargs.items():
        if name not in known:
            return f"`{op}` has no argument {shortened(name)}"
        if name in given:
            return f"`{op}` is given its argument `{name}` twice"
        given[name] = value
    for argument in arguments:
        if argument.name not in given:
            if not argument.optional:
                return f"`{op}` lacks its argument `{argument.name}`"
        elif not _fits(argument.kind, given[argument.name], types):
            shown = _shown(given[argument.name])
            return f"argument `{argument.name}` of `{op}`: expected {argument.kind}, got {shown}"
    return argument_problem(op, given, node.type, types)


def _fits(kind: str, value: Value, types: Types) -> bool:
    """Whether a value is of a kind of the vocabulary's table."""
    if kind.endswith("?"):
        return value is None or _fits(kind[:-1], value, types)
    if kind.endswith("[]"):
        if isinstance(value, tuple):
            return all(_fits(kind[:-2], item, types) for item in value)
        return kind == "int[]" and _fits(
            "int", value, types
        )  # ATen widens a lone int to every axis
    if isinstance(value, Ref):
        stands_for = types[value.name]
        if not isinstance(stands_for, TensorType):
            return kind == "Tensors"
        is_size = stands_for.dtype == "int"
        return kind in (("int", "number", "operand") if is_size else ("Tensor", "operand"))
    if isinstance(value, bool):  # before int, which it is in Python
        return kind in ("bool", "number", "operand")
    if isinstance(value, int):
        return kind in ("int", "float", "number", "operand")
    if isinstance(value, float):
        return kind in ("float", "number", "operand")
    return (isinstance(value, str) and kind == "str") or (
        isinstance(value, Dtype) and kind == "dtype"
    )


class _Misfit(Exception):  # noqa: N818 - an answer, not an error
    """What does not fit, in words."""


class _Call:
    """The arguments of one of irbin's operators, by name, with what they stand for."""

    def __init__(self, op: str, given: dict[str, Value], types: Types, constants: Types) -> None:
        self.op, self.given, self.types, self.constants = op, given, types, constants

    def tensor(self, name: str, dtype: str, rank: int | None = None) -> TensorType:
        value = self.given[name]
        kind = self.types[value.name] if isinstance(value, Ref) else None
        if not isinstance(kind, TensorType) or kind.dtype != dtype:
            raise _Misfit(f"`{name}` of `{self.op}`: expected {dtype}, got {in_text(kind)}")
        if rank is not None and len(kind.shape) != rank:
            raise _Misfit(f"`{name}` of `{self.op}`: expected {rank} axes, got {kind}")
        return kind

    def constant(self, name: str, dtype: str, shape: Sequence[int]) -> None:
        """Demands a tensor of the file of that shape."""
        kind, value = self.tensor(name, dtype), self.given[name]
        if kind.shape != tuple(shape) or not (
            isinstance(value, Ref) and value.name in self.constants
        ):
            wanted = TensorType(dtype, tuple(shape))
            raise _Misfit(f"`{name}` of `{self.op}`: expected a constant {wanted}, got {kind}")

    def channel_vectors(self, n_out: int) -> None:
        """Demands that scale_log2 and bias, where given, have one number per output channel."""
        if self.given["scale_log2"] is not None:
            self.constant("scale_log2", "int8", (n_out,))
        if self.given.get("bias") is not None:
            self.constant("bias", "float32", (n_out,))

    def integer(self, name: str, least: int) -> int:
        value = self.given[name]
        if not isinstance(value, int) or not least <= value <= MAX_INTEGER:
            raise _Misfit(
                f"`{name}` of `{self.op}`: expected at least {least} and at most {MAX_INTEGER}, "
                f"got {value!r}"
            )
        return value

    def integers(self, name: str, n: int, least: int) -> tuple[int, ...]:
        value = self.given[name]
        if isinstance(value, tuple) and len(value) == n:
            sizes = tuple(v for v in value if isinstance(v, int) and least <= v <= MAX_REACH)
            if len(sizes) == n:
                return sizes
        raise _Misfit(
            f"`{name}` of `{self.op}`: expected {n} numbers ≥ {least} and ≤ {MAX_REACH}, got "
            f"{_shown(value)}"
        )


def _bitpack(call: _Call) -> TensorType:
    x, groups = call.tensor("x", "float32"), call.integer("groups", 1)
    axis = call.integer("channel_axis", 0)
    channels = x.shape[axis] if axis < len(x.shape) else None
    if not isinstance(channels, int) or channels % groups:
        raise _Misfit(f"`bitpack`: axis {axis} of {x} cannot be packed in {groups} groups")
    outer = (*x.shape[:axis], *x.shape[axis + 1 :])
    return TensorType("uint8", (*outer, groups * packed_bytes(channels // groups)))


def _bconv2d(call: _Call) -> TensorType:
    bits, weight = call.tensor("bits", "uint8", 4), call.tensor("weight_bits", "uint8", 4)
    groups, in_channels = call.integer("groups", 1), call.integer("in_channels", 1)
    n_out, *kernel, _ = (size for size in weight.shape if isinstance(size, int))
    if in_channels % groups or n_out % groups:
        raise _Misfit(
            f"`bconv2d`: {in_channels} → {n_out} channels do not divide by {groups} groups"
        )
    packed = packed_bytes(in_channels // groups)
    call.constant("weight_bits", "uint8", (n_out, *kernel, packed))
    call.channel_vectors(n_out)
    _check_depth(call.op, in_channels // groups * kernel[0] * kernel[1])
    if bits.shape[3] != groups * packed:
        raise _Misfit(
            f"`bits` of `bconv2d`: expected {groups * packed} bytes innermost, got {bits}"
        )
    stride, dilation = call.integers("stride", 2, 1), call.integers("dilation", 2, 1)
    left, right, top, bottom = call.integers("border", 4, 0)
    sizes: list[int] = []
    n_padded = in_channels
    for axis, padding in ((0, top + bottom), (1, left + right)):
        size = bits.shape[1 + axis]
        reach = (kernel[axis] - 1) * dilation[axis] + 1
        if not isinstance(size, int) or not 1 <= reach <= min(size + padding, MAX_REACH):
            raise _Misfit(
                f"`bconv2d`: the kernel reaches over {reach} pixels of {bits}; the bound is the "
                f"image with its border, and {MAX_REACH}"
            )
        n_padded *= size + padding
        sizes.append((size + padding - reach) // stride[axis] + 1)
    if n_padded > MAX_ELEMENTS:
        raise _Misfit(
            f"`bconv2d`: expected at most {MAX_ELEMENTS} values of an image with its border, got "
            f"{n_padded}"
        )
    n_products = n_out * math.prod(sizes) * in_channels // groups * kernel[0] * kernel[1]
    if n_products > MAX_PRODUCTS:
        raise _Misfit(f"`bconv2d`: expected at most {MAX_PRODUCTS} products, got {n_products}")
    return TensorType("float32", (bits.shape[0], n_out, *sizes))


def _bgemm(call: _Call) -> TensorType:
    bits, weight = call.tensor("bits", "uint8"), call.tensor("weight_bits", "uint8", 2)
    in_features = call.integer("in_features", 1)
    n_out, packed = weight.shape[0], packed_bytes(in_features)
    if not isinstance(n_out, int) or not bits.shape or bits.shape[-1] != packed:
        raise _Misfit(f"`bits` of `bgemm`: expected {packed} bytes innermost, got {bits}")
    call.constant("weight_bits", "uint8", (n_out, packed))
    call.channel_vectors(n_out)
    _check_depth(call.op, in_features)
    return TensorType("float32", (*bits.shape[:-1], n_out))


def _bitunpack(call: _Call) -> TensorType:
    weight, in_channels = call.tensor("weight_bits", "uint8"), call.integer("in_channels", 1)
    if len(weight.shape) not in (2, 4) or not weight.is_static:
        raise _Misfit(f"`weight_bits` of `bitunpack`: expected 2 or 4 axes, got {weight}")
    n_out, *kernel = (size for size in weight.shape[:-1] if isinstance(size, int))
    call.constant("weight_bits", "uint8", (n_out, *kernel, packed_bytes(in_channels)))
    call.channel_vectors(n_out)
    return TensorType("float32", (n_out, in_channels, *kernel))


def _check_depth(op: str, depth_bits: int) -> None:
    if depth_bits > MAX_DEPTH_BITS:
        raise _Misfit(f"`{op}`: a dot of {depth_bits} products is longer than {MAX_DEPTH_BITS}")


RESULTS: dict[str, Callable[[_Call], TensorType]] = {
    "bitpack": _bitpack,
    "bconv2d": _bconv2d,
    "bgemm": _bgemm,
    "bitunpack": _bitunpack,
}
"""What each of our operators gives for its arguments, which it checks."""


def _shown(value: Value) -> str:
    """An argument for a message, however long it is."""
    text = repr(value)
    return text if len(text) <= 80 else shortened(text)
