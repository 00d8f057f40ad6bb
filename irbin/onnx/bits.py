"""irbin's own operators in ONNX: weights at one bit in the file, ±1 as floats when it runs."""

from __future__ import annotations

import numpy as np

from irbin.onnx.call import Call, Signs
from irbin.onnx.graph import Graph, Unwritable
from irbin.program.own import BConv2d, BGemm, BitPack, BitUnpack
from irbin.program.types import Ref
from irbin.runtime.arrays import Array


def bitpack(call: Call) -> Signs:
    """−1 where x < 0, else +1; laid out as x."""
    own = BitPack.of(call.node)
    graph, rank = call.graph, call.rank("x")
    negative = graph.add("Less", call.tensor("x"), call.scalar(0.0))
    signs = graph.add("Where", negative, call.scalar(-1.0), call.scalar(1.0))
    return Signs(signs, own.channel_axis % rank, rank)


def bconv2d(call: Call) -> str:
    """A convolution of ±1 with ±2^s: every sum is a whole number times 2^s, in any order."""
    own = BConv2d.of(call.node)
    left, right, top, bottom = own.border
    result = call.graph.add(
        "Conv",
        _signs(call, own.bits, channel_axis=1),
        _weight(call, own),
        dilations=list(own.dilation),
        group=own.groups,
        pads=[top, left, bottom, right],
        strides=list(own.stride),
    )
    return _with_bias(call, own.bias, result, (-1, 1, 1))


def bgemm(call: Call) -> str:
    """A product of ±1 with ±2^s."""
    own = BGemm.of(call.node)
    weight = call.graph.add("Transpose", _weight(call, own), perm=[1, 0])
    result = call.graph.add("MatMul", _signs(call, own.bits, channel_axis=-1), weight)
    return _with_bias(call, own.bias, result, (-1,))


def bitunpack(call: Call) -> str:
    """The weight of a layer whose activations are float."""
    return _weight(call, BitUnpack.of(call.node))


def _signs(call: Call, bits: Ref, channel_axis: int) -> str:
    signs = call.values.get(bits.name)
    if not isinstance(signs, Signs):
        raise Unwritable("bits that something else than `bitpack` gives")
    axis = channel_axis % signs.n_axes
    if signs.channel_axis == axis:
        return signs.value
    order = [a for a in range(signs.n_axes) if a != signs.channel_axis]
    order.insert(axis, signs.channel_axis)
    return call.graph.add("Transpose", signs.value, perm=order)


def _with_bias(call: Call, bias: Ref | None, x: str, shape: tuple[int, ...]) -> str:
    """A sum of its own: within `Conv` it might be the first number that is added."""
    if bias is None:
        return x
    array = call.arrays[bias.name].reshape(shape)
    return call.graph.add("Add", x, call.graph.constant(array, name=bias.name))


def _weight(call: Call, own: BConv2d | BGemm | BitUnpack) -> str:
    """±2^s as floats, input channels on axis 1."""
    bits = call.arrays[own.weight_bits.name]
    weight = unpacked(call.graph, bits, own.depth, own.weight_bits.name)
    if own.scale_log2 is None:
        return weight
    exponents = call.arrays[own.scale_log2.name].astype(np.int32)
    scale = np.ldexp(np.float32(1), exponents).reshape(-1, *(1,) * (bits.ndim - 1))
    name = own.scale_log2.name.removesuffix("_log2")
    return call.graph.add("Mul", weight, call.graph.constant(scale, "float32", name))


def unpacked(graph: Graph, bits: Array, depth: int, name: str) -> str:
    """Signs of a weight as floats.

    Args:
        graph: gets the nodes.
        bits: uint8 (out_channels, [kernel_height, kernel_width,] packed_in_channels).
        depth: input channels.
        name: of the bits in the file.

    Returns:
        Name of float32 (out_channels, in_channels[, kernel_height, kernel_width]).
    """
    spread = graph.add("Unsqueeze", graph.constant(bits, name=name), graph.integers([bits.ndim]))
    shifts = graph.constant(np.arange(8, dtype=np.uint8))
    shifted = graph.add("BitShift", spread, shifts, direction="RIGHT")
    single = graph.add("Mod", shifted, graph.constant(2, "uint8"))
    negative = graph.add("Cast", single, to="bool")
    n_signs = 8 * bits.shape[-1]
    row = graph.add("Reshape", negative, graph.integers([*bits.shape[:-1], n_signs]))
    if n_signs != depth:
        row = graph.sliced(row, bits.ndim - 1, 0, depth)
    if bits.ndim > 2:
        row = graph.add("Transpose", row, perm=[0, bits.ndim - 1, *range(1, bits.ndim - 1)])
    return graph.add("Where", row, graph.constant(-1, "float32"), graph.constant(1, "float32"))
