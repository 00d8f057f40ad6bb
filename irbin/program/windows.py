"""How float convolutions and poolings walk over an image, and which of them are for our kernels."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from irbin.program.types import Node, Ref, TensorType, Value, ValueType


def conv_window(
    node: Node, types: Mapping[str, ValueType], constants: Collection[str]
) -> tuple[tuple[int, int], ...] | None:
    """(stride, padding, dilation) of a float convolution, or None if it is left to torch.

    Left to torch: groups, weights that are computed, padding by name, and sizes that do not fit
    each other.
    """
    if node.kwargs:
        return None
    source, weight, *rest = node.args
    if not (isinstance(source, Ref) and isinstance(weight, Ref) and weight.name in constants):
        return None
    image, kernel = types[source.name], types[weight.name]
    defaults: tuple[Value, ...] = (None, (1, 1), (0, 0), (1, 1), 1)
    bias, stride, padding, dilation, groups = (*rest, *defaults[len(rest) :])
    pairs = [_pair(value) for value in (stride, padding, dilation)]
    window = tuple(pair for pair in pairs if pair is not None)
    if not isinstance(image, TensorType) or not isinstance(kernel, TensorType):
        return None
    if not kernel.is_static or len(kernel.shape) != 4 or len(window) < 3 or groups != 1:
        return None
    n_out, n_in, *size = (int(size) for size in kernel.shape)
    vector = TensorType("float32", (n_out,))
    has_fitting_bias = bias is None or (
        isinstance(bias, Ref) and bias.name in constants and types[bias.name] == vector
    )
    if kernel.dtype != "float32" or image.shape[1:2] != (n_in,) or not has_fitting_bias:
        return None
    if node.type != _result_type(image, n_out, ((size[0], size[1]), *window)):
        return None
    return window


def _result_type(
    image: TensorType, n_out: int | str, window: Sequence[tuple[int, int]]
) -> TensorType | None:
    """What a window (kernel, stride, padding, dilation) gives; None for no float image."""
    if image.dtype != "float32" or len(image.shape) != 4:
        return None
    sizes = []
    for size, kernel, stride, padding, dilation in zip(image.shape[2:], *window, strict=True):
        if not isinstance(size, int) or min(kernel, stride, dilation) < 1 or padding < 0:
            return None
        sizes.append((size + 2 * padding - (kernel - 1) * dilation - 1) // stride + 1)
    return TensorType("float32", (*image.shape[:1], n_out, *sizes)) if min(sizes) > 0 else None


def pool_window(node: Node, types: Mapping[str, ValueType]) -> tuple[tuple[int, int], ...] | None:
    """(kernel, stride, padding, dilation) of a maximum pooling, or None if it is not for us.

    Not for us: other than float32 of four axes, sizes rounded up, padding as wide as the window.
    """
    if node.kwargs:
        return None
    source, kernel, *rest = node.args
    kind = types[source.name] if isinstance(source, Ref) else None
    if not isinstance(kind, TensorType) or len(kind.shape) != 4:
        return None
    defaults: tuple[Value, ...] = ((), (0, 0), (1, 1), False)
    stride, padding, dilation, ceil = (*rest, *defaults[len(rest) :])
    pairs = [_pair(kernel), _pair(stride or kernel), _pair(padding), _pair(dilation)]
    window = tuple(pair for pair in pairs if pair is not None)
    if len(window) < 4 or ceil or any(p >= k for p, k in zip(window[2], window[0], strict=True)):
        return None
    return window if node.type == _result_type(kind, kind.shape[1], window) else None


def _pair(value: object) -> tuple[int, int] | None:
    """An `int[2]` argument, which may be one number for both axes."""
    values = value if isinstance(value, tuple) else (value,)
    if len(values) == 1:
        values = (values[0], values[0])
    if len(values) != 2 or not all(isinstance(v, int) for v in values):
        return None
    return values[0], values[1]
