"""How float convolutions and poolings walk over an image, and which of them are for our kernels."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from irbin.border import Border
from irbin.program.types import Node, Ref, TensorType, Value, ValueType, fixed, one_tensor

LINEAR = "aten.linear.default"
LEAST_OF_A_GROUP = 8
"""Output channels from which on a group is worth a kernel of ours."""


def conv_window(
    node: Node, types: Mapping[str, ValueType], constants: Collection[str]
) -> tuple[tuple[int, int], ...] | None:
    """(stride, padding, dilation) of a float convolution, or None if it is left to torch.

    Left to torch: weights that are computed, padding by name, and sizes that do not fit each other.
    """
    if node.kwargs:
        return None
    source, weight, *rest = node.args
    if not (isinstance(source, Ref) and isinstance(weight, Ref) and weight.name in constants):
        return None
    image, kernel = types[source.name], types[weight.name]
    defaults: tuple[Value, ...] = (None, (1, 1), (0, 0), (1, 1), 1)
    bias, stride, padding, dilation, groups = (*rest, *defaults[len(rest) :])
    pairs = [pair(value) for value in (stride, padding, dilation)]
    window = tuple(pair for pair in pairs if pair is not None)
    if not isinstance(image, TensorType) or not isinstance(kernel, TensorType):
        return None
    if not kernel.is_static or len(kernel.shape) != 4 or len(window) < 3:
        return None
    n_out, n_in, *size = (int(size) for size in kernel.shape)
    vector = TensorType("float32", (n_out,))
    has_fitting_bias = bias is None or (
        isinstance(bias, Ref) and bias.name in constants and types[bias.name] == vector
    )
    if not isinstance(groups, int) or groups < 1 or n_out % groups or not n_in:
        return None
    if kernel.dtype != "float32" or image.shape[1:2] != (n_in * groups,) or not has_fitting_bias:
        return None
    if node.type != _result_type(image, n_out, ((size[0], size[1]), *window)):
        return None
    return window


def n_groups(conv: Node) -> int:
    """Groups of a convolution that `conv_window` takes."""
    groups = conv.args[6] if len(conv.args) > 6 else 1
    assert isinstance(groups, int), "`conv_window` looked"
    return groups


def has_few_outputs(conv: Node) -> bool:
    """Whether groups have so few channels that most of a register would be empty.

    Of a convolution that `conv_window` takes; where each channel is one alone lanes are channels.
    """
    groups, n_out = n_groups(conv), fixed(one_tensor(conv.type).shape[1])
    return groups > 1 and n_out // groups < LEAST_OF_A_GROUP


def is_depthwise(conv: Node, types: Mapping[str, ValueType]) -> bool:
    """Whether every channel is convolved by itself, to one channel."""
    kernel = types[conv.refs()[1]]
    shape = kernel.shape if isinstance(kernel, TensorType) else ()
    return n_groups(conv) > 1 and shape[:2] == (n_groups(conv), 1)


def out_size(size: int, reach: int, step: int, padding: tuple[int, int], *, ceil: bool) -> int:
    """Outputs of a pooling along an axis; rounded up, none of them starts behind the image."""
    room = size + sum(padding) - reach
    if not ceil:
        return room // step + 1
    n = -(-room // step) + 1
    return n - 1 if (n - 1) * step >= size + padding[0] else n


def _result_type(
    image: TensorType,
    n_out: int | str,
    window: Sequence[tuple[int, int]],
    *,
    ceil: bool = False,
) -> TensorType | None:
    """What a window (kernel, stride, padding, dilation) gives; None for no float image."""
    if image.dtype != "float32" or len(image.shape) != 4:
        return None
    sizes = []
    for size, kernel, stride, padding, dilation in zip(image.shape[2:], *window, strict=True):
        if not isinstance(size, int) or min(kernel, stride, dilation) < 1 or padding < 0:
            return None
        reach = (kernel - 1) * dilation + 1
        sizes.append(out_size(size, reach, stride, (padding, padding), ceil=ceil))
    return TensorType("float32", (*image.shape[:1], n_out, *sizes)) if min(sizes) > 0 else None


def pool_window(node: Node, types: Mapping[str, ValueType]) -> tuple[tuple[int, int], ...] | None:
    """(kernel, stride, padding, dilation) of a maximum pooling, or None if it is not for us.

    Not for us: other than float32 of four axes, padding as wide as the window.
    """
    if node.kwargs:
        return None
    source, kernel, *rest = node.args
    kind = types[source.name] if isinstance(source, Ref) else None
    if not isinstance(kind, TensorType) or len(kind.shape) != 4:
        return None
    defaults: tuple[Value, ...] = ((), (0, 0), (1, 1), False)
    stride, padding, dilation, ceil = (*rest, *defaults[len(rest) :])
    pairs = [pair(kernel), pair(stride or kernel), pair(padding), pair(dilation)]
    window = tuple(pair for pair in pairs if pair is not None)
    if len(window) < 4 or any(p >= k for p, k in zip(window[2], window[0], strict=True)):
        return None
    made = _result_type(kind, kind.shape[1], window, ceil=ceil is True)
    return window if node.type == made else None


def pool_border(node: Node, types: Mapping[str, ValueType]) -> Border:
    """Padding (left, right, top, bottom) of a pooling that `pool_window` takes.

    Behind the image there may be more, where sizes are rounded up.
    """
    window, made, given = pool_window(node, types), node.type, types[node.refs()[0]]
    assert window is not None, "`pool_window` looked"
    assert isinstance(made, TensorType)
    assert isinstance(given, TensorType)
    behind = []
    for axis, (kernel, stride, padding, dilation) in enumerate(zip(*window, strict=True), start=2):
        reach = (fixed(made.shape[axis]) - 1) * stride + (kernel - 1) * dilation + 1
        behind.append(max(padding, reach - padding - fixed(given.shape[axis])))
    (top, left), (bottom, right) = window[2], behind
    return left, right, top, bottom


def linear_shape(
    node: Node, types: Mapping[str, ValueType], constants: Collection[str]
) -> tuple[int, int] | None:
    """(out_features, in_features) of a linear layer, or None if it is left to torch.

    Left to torch: weights that are computed, other types than float32, and sizes that do not fit.
    """
    if node.op != LINEAR or node.kwargs or len(node.args) < 2:
        return None
    source, weight, bias = (*node.args, None)[:3]
    if not (isinstance(source, Ref) and isinstance(weight, Ref) and weight.name in constants):
        return None
    given, matrix = types[source.name], types[weight.name]
    if not isinstance(given, TensorType) or not isinstance(matrix, TensorType):
        return None
    if given.dtype != "float32" or not matrix.is_static or len(matrix.shape) != 2:
        return None
    n_out, n_in = (int(size) for size in matrix.shape)
    if bias is not None:
        vector = TensorType("float32", (n_out,))
        if not isinstance(bias, Ref) or bias.name not in constants or types[bias.name] != vector:
            return None
    fits = len(given.shape) > 1 and given.shape[-1] == n_in and min(n_out, n_in) > 0
    made = TensorType("float32", (*given.shape[:-1], n_out))
    return (n_out, n_in) if fits and matrix.dtype == "float32" and node.type == made else None


def pair(value: object) -> tuple[int, int] | None:
    """The two numbers of an `int[2]` argument, which may be one number for both axes."""
    values = value if isinstance(value, tuple) else (value,)
    if len(values) == 1:
        values = (values[0], values[0])
    if len(values) != 2 or not all(isinstance(v, int) for v in values):
        return None
    return values[0], values[1]
