"""From a fused record to a kernel made ready: its constants looked up, its steps written out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from irbin.errors import ArtifactError
from irbin.kernels.attention import AttentionKernel, Heads, Look
from irbin.kernels.byte_convolution import ByteConvKernel
from irbin.kernels.convolution import ConvKernel, FloatConvKernel, dot_steps, linear_kernel
from irbin.kernels.geometry import Geometry
from irbin.kernels.kernel import Kernel
from irbin.kernels.lines import (
    DepthwiseKernel,
)
from irbin.kernels.norms import GroupNormKernel, LayerNormKernel
from irbin.kernels.passes import PoolKernel, RowsKernel
from irbin.kernels.sign_convolution import SignConvKernel
from irbin.kernels.steps import WITH_VALUES, Floats, Step, simplify
from irbin.kernels.thresholds import find_thresholds
from irbin.messages import first_line
from irbin.program.fused import Fused, FusedStep
from irbin.program.norms import norm_of
from irbin.program.own import BConv2d, BGemm
from irbin.program.types import Ref, ValueType, fixed, one_tensor
from irbin.program.windows import conv_window, n_groups, pool_border, pool_window
from irbin.records.options import FloatMath
from irbin.runtime.arrays import as_array
from irbin.runtime.lines import lines_kernel
from irbin.runtime.signs import SignWeight, takes_signs


class Normalization(NamedTuple):
    """What bytes become floats by; each a number a channel, in units of [0, 1] pixels."""

    mean: tuple[float, ...]
    """Is subtracted."""
    std: tuple[float, ...]
    """Divides then."""


AS_THEY_ARE = Normalization((), ())
"""Where no kernel reads bytes."""


def make_kernel(
    item: Fused,
    constants: Mapping[str, Any],
    types: Mapping[str, ValueType],
    float_math: FloatMath = "float32",
    normalization: Normalization = AS_THEY_ARE,
    signs: Mapping[str, SignWeight] | None = None,
) -> Kernel:
    """The kernel that computes a record's results.

    Args:
        item: what to compute.
        constants: arrays or tensors by name.
        types: of everything in the program.
        float_math: of float convolutions.
        normalization: of the bytes that a record reads.
        signs: weights that are signs, by the names of the floats made of them.

    Raises:
        ArtifactError: sizes that the program's checks let through do not fit a kernel, or bytes
            cannot take the normalization.
    """
    n_channels = item.n_channels
    try:
        steps = written_out(item.steps, n_channels, constants)
        match item.kind:
            case "dot":
                return _dot_kernel(item, steps, constants, types)
            case "conv" | "depthwise":
                if item.from_bytes:
                    return _byte_conv_kernel(item, steps, constants, types, normalization)
                weight = (signs or {}).get(item.root.refs()[1])
                if weight is not None and float_math == "float32" and takes_signs(item, weight):
                    return _sign_conv_kernel(item, steps, constants, types, weight)
                return _float_conv_kernel(item, steps, constants, types, float_math)
            case "linear":
                matrix = np.ascontiguousarray(as_array(constants[item.root.refs()[1]]))
                pixel = Geometry((1, 1), (1, 1))
                return FloatConvKernel(matrix[:, None, None, :], pixel, simplify_floats(steps))
            case "pool":
                producer = None
                if item.producer is not None:
                    producer = make_kernel(
                        item.producer, constants, types, float_math, normalization, signs
                    )
                return _pool_kernel(item, steps, n_channels, types, producer)
            case "rows":
                return RowsKernel(n_channels, simplify_floats(steps))
            case "layer_norm" | "group_norm":
                return _norm_kernel(item, simplify_floats(steps), n_channels, types)
            case "attention":
                return _attention_kernel(item, simplify_floats(steps), constants)
        return lines_kernel(item, simplify_floats(steps), types, constants)
    except Exception as error:
        raise ArtifactError(
            f"node `{item.root.name}` ({item.root.op}): {first_line(error)}"
        ) from error


def written_out(
    steps: Sequence[FusedStep], n_channels: int, constants: Mapping[str, Any]
) -> tuple[Step, ...]:
    """The kernels' steps: constants as vectors, residuals numbered, differences as sums."""
    written: list[Step] = []
    n_residuals = 0
    for step in steps:
        if step.kind == "residual":
            before, channels = step.before, step.channels
            written.append(Step("residual", residual=n_residuals, before=before, channels=channels))
            n_residuals += 1
        elif step.kind == "write":
            written.append(Step("write"))
        elif step.kind == "clamp":
            written.append(Step("clamp", low=step.low, high=step.high))
        elif step.kind != "subtract" and step.kind not in WITH_VALUES:
            activation = Step(step.kind)
            written += [Step("hold"), activation, Step("keep")] if step.keeps_sign else [activation]
        else:
            values = _vector(step.operand, n_channels, constants)
            if step.kind == "subtract":  # x − c = x + (−c), exactly
                written.append(Step("add", -values))
            else:
                written.append(Step(step.kind, values))
    return tuple(written)


def residual_names(item: Fused) -> tuple[str, ...]:
    """The tensors that residual steps add, in the kernel's order."""
    return tuple(str(step.operand) for step in item.steps if step.kind == "residual")


def other_names(item: Fused) -> tuple[str, ...]:
    """Tensors that the kernel reads beside its source, in its order: residuals, then the rest."""
    return (*residual_names(item), *item.others)


def simplify_floats(steps: Sequence[Step]) -> tuple[Step, ...]:
    """`simplify` on values that are no integers: only products with ones go."""
    return tuple(s for s in steps if not (s.kind == "multiply" and np.all(s.values == 1)))


def _dot_kernel(
    item: Fused,
    steps: tuple[Step, ...],
    constants: Mapping[str, Any],
    types: Mapping[str, ValueType],
) -> ConvKernel:
    own = BGemm.of(item.root) if item.root.op == "bgemm" else BConv2d.of(item.root)
    weight = np.ascontiguousarray(as_array(constants[own.weight_bits.name]))
    scale, bias = _array(own.scale_log2, constants), _array(own.bias, constants)
    all_steps = simplify((*dot_steps(scale, bias), *steps))
    n_products = own.depth * math.prod(weight.shape[1:-1])
    limits = find_thresholds(all_steps, n_products, len(weight)) if item.threshold else None
    if isinstance(own, BGemm):
        return linear_kernel(weight, own.in_features, all_steps, limits)
    size = _size(types[item.source], 1)
    geometry = Geometry(size, weight.shape[1:3], own.stride, own.border, own.dilation)
    return ConvKernel(weight, geometry, own.in_channels, own.groups, all_steps, limits)


def _float_conv_kernel(
    item: Fused,
    steps: tuple[Step, ...],
    constants: Mapping[str, Any],
    types: Mapping[str, ValueType],
    float_math: FloatMath,
) -> FloatConvKernel | DepthwiseKernel:
    weight, geometry = _window_of(item, constants, types)
    if item.kind == "depthwise":
        taps = np.ascontiguousarray(weight[..., 0].transpose(1, 2, 0))
        return DepthwiseKernel(taps, geometry, simplify_floats(steps))
    groups, narrow = n_groups(item.root), float_math == "bfloat16"
    return FloatConvKernel(weight, geometry, simplify_floats(steps), groups=groups, bfloat16=narrow)


def _sign_conv_kernel(
    item: Fused,
    steps: tuple[Step, ...],
    constants: Mapping[str, Any],
    types: Mapping[str, ValueType],
    weight: SignWeight,
) -> SignConvKernel:
    _, geometry = _window_of(item, constants, types)
    all_steps = simplify_floats((*dot_steps(weight.scale_log2, None), *steps))
    return SignConvKernel(weight.bits, weight.in_channels, geometry, all_steps)


def _byte_conv_kernel(
    item: Fused,
    steps: tuple[Step, ...],
    constants: Mapping[str, Any],
    types: Mapping[str, ValueType],
    normalization: Normalization,
) -> ByteConvKernel:
    weight, geometry = _window_of(item, constants, types)
    return ByteConvKernel(weight, *normalization, geometry, simplify_floats(steps))


def _window_of(
    item: Fused, constants: Mapping[str, Any], types: Mapping[str, ValueType]
) -> tuple[Floats, Geometry]:
    """(out_channels, kernel_height, kernel_width, in_channels / groups), and how it walks."""
    window = conv_window(item.root, types, constants)
    assert window is not None, "`fuse` looked"
    weight = np.ascontiguousarray(as_array(constants[item.root.refs()[1]]).transpose(0, 2, 3, 1))
    stride, (down, right), dilation = window
    border = (right, right, down, down)
    if item.box is not None:  # zeros in front of it
        _, y, x = item.box.axes
        around = (x.before, x.size - x.before - x.length, y.before, y.size - y.before - y.length)
        border = (
            right + around[0],
            right + around[1],
            down + around[2],
            down + around[3],
        )
    size = _size(types[item.source], 2)
    return weight, Geometry(size, weight.shape[1:3], stride, border, dilation)


def _norm_kernel(
    item: Fused, steps: tuple[Step, ...], n_channels: int, types: Mapping[str, ValueType]
) -> LayerNormKernel | GroupNormKernel:
    constants = set(item.root.refs()[1:])
    norm = norm_of(item.root, types, constants)
    assert norm is not None, "`fuse` looked"
    if item.kind == "layer_norm":
        return LayerNormKernel(n_channels, norm.epsilon, steps, is_centered=norm.is_centered)
    size = _size(types[item.source], 2)
    return GroupNormKernel(size, n_channels, norm.n_groups, norm.epsilon, steps)


def _attention_kernel(
    item: Fused, steps: tuple[Step, ...], constants: Mapping[str, Any]
) -> AttentionKernel:
    own = item.attention
    assert own is not None, "`fuse` looked"
    heads = Heads(own.n_heads, own.n_queries, own.n_keys, own.depth, own.width)
    queries, keys, values = (Look(*look[2:]) for look in own.looks)
    mask = None
    if own.mask is not None:
        given = as_array(constants[own.mask])
        given = given.reshape((1,) * (4 - given.ndim) + given.shape)[0]
        shape = (len(given), own.n_queries, own.n_keys)
        mask = np.ascontiguousarray(np.broadcast_to(given, shape))
    return AttentionKernel(heads, (queries, keys, values), own.scale, mask, steps)


def _pool_kernel(
    item: Fused,
    steps: tuple[Step, ...],
    n_channels: int,
    types: Mapping[str, ValueType],
    producer: Kernel | None,
) -> PoolKernel:
    window, pooled = pool_window(item.root, types), types[item.root.refs()[0]]
    assert window is not None, "`fuse` looked"
    kernel, stride, _, dilation = window
    border = pool_border(item.root, types)
    geometry = Geometry(_size(pooled, 2), kernel, stride, border, dilation)
    after = simplify_floats(steps)
    if isinstance(producer, ConvKernel | FloatConvKernel | ByteConvKernel | SignConvKernel):
        return PoolKernel(geometry, n_channels, (), after, producer)
    before = () if producer is None else producer.steps
    return PoolKernel(geometry, n_channels, before, after)


def _size(kind: ValueType, axis: int) -> tuple[int, int]:
    """(height, width) of images whose height is that axis."""
    height, width = one_tensor(kind).shape[axis : axis + 2]
    return fixed(height), fixed(width)


def _array(value: Ref | None, constants: Mapping[str, Any]) -> NDArray[Any] | None:
    return None if value is None else np.ascontiguousarray(as_array(constants[value.name]))


def _vector(operand: str | float | None, n_channels: int, constants: Mapping[str, Any]) -> Floats:
    if isinstance(operand, str):
        values = as_array(constants[operand]).reshape(-1)
        return np.ascontiguousarray(np.broadcast_to(values, (n_channels,)))
    with np.errstate(over="ignore"):  # as torch, which makes infinity of it
        return np.full(n_channels, operand, np.float32)
