"""Poolings that average, and means over an image's axes, as windows with what they count."""

from __future__ import annotations

from irbin.axes import Span
from irbin.program.types import Node, Ref, TensorType, Types, Value
from irbin.program.windows import out_size, pair

AVERAGE = (
    "aten.avg_pool2d.default",
    "aten.adaptive_avg_pool2d.default",
    "aten.mean.dim",
    "aten.avg_pool1d.default",
)
"""Operators whose average may be ours."""
MAX_COUNT = 2**24
"""Up to here a count is a float32."""
MAX_SIZE = 2**16
"""Pixels of an axis, or channels: windows are listed one by one."""
Spans = tuple[tuple[Span, ...], tuple[Span, ...]]
"""Of each output row, of each output column."""


def average_spans(node: Node, types: Types) -> Spans | None:
    """What a node averages, or None if that is left to torch.

    Left to torch: other than float32 images (batch, channels, height, width), means over other axes
    than all but the batch's and one beside it or the last, and sizes that do not fit each other.
    """
    first = node.args[0] if node.args else None
    image = types[first.name] if isinstance(first, Ref) else None
    if (
        node.op not in AVERAGE
        or node.kwargs
        or not isinstance(image, TensorType)
        or image.dtype != "float32"
    ):
        return None
    rank, axis = len(image.shape), averaged_channels(node, types)
    if axis is None or not all(
        isinstance(size, int) and 0 < size <= MAX_SIZE for size in image.shape[1:]
    ):
        return None
    sides = [int(image.shape[other]) for other in range(1, rank) if other != axis]
    size = (sides[0], sides[1] if rank == 4 else 1)
    keeps: Value = True
    if node.op == AVERAGE[0]:
        spans = _pooled(size, node.args[1:])
    elif node.op == AVERAGE[3]:
        spans = _pooled(size, _of_rows(node.args[1:]))
    elif node.op == AVERAGE[1]:
        spans = _adapted(size, node.args[1:])
    else:
        defaults: tuple[Value, ...] = (None, False, None)
        _, keeps, dtype = (*node.args[1:], *defaults[len(node.args) - 1 :])
        spans = _adapted(size, ((1, 1),)) if dtype is None else None
    if spans is None:
        return None
    shape = [image.shape[0], len(spans[0]), len(spans[1])][: rank - 1] if keeps else image.shape[:1]
    made = list(shape)
    made.insert(axis if keeps else 1, image.shape[axis])
    return spans if node.type == TensorType("float32", tuple(made)) else None


def averaged_neighbors(mean: Node, parts: Node | None, types: Types) -> int | None:
    """Of how many neighboring channels each a node is the mean, or None where it is not.

    Args:
        mean: of axis 2 of (batch, means, count, height, width).
        parts: what it reads: the reshape that takes the channels apart.
        types: of everything.
    """
    if mean.op != AVERAGE[2] or parts is None or parts.op != "aten.reshape.default":
        return None
    if mean.kwargs or mean.args[1:] not in (((2,),), ((2,), False)):
        return None
    image, apart = types[parts.refs()[0]], parts.type
    if not isinstance(image, TensorType) or not isinstance(apart, TensorType):
        return None
    if image.dtype != "float32" or len(image.shape) != 4 or len(apart.shape) != 5:
        return None
    sizes = [size for size in (*image.shape[1:], *apart.shape[1:]) if isinstance(size, int)]
    if len(sizes) != 7 or min(sizes) < 1:
        return None
    channels, height, width, means, count, *others = sizes
    fits = channels == means * count and others == [height, width] and count <= MAX_COUNT
    fits = fits and apart.shape[0] == image.shape[0]
    made = TensorType("float32", (image.shape[0], means, height, width))
    return count if fits and mean.type == made else None


def averaged_channels(node: Node, types: Types) -> int | None:
    """The axis along which the channels of what a node averages lie, or None where none is left.

    A mean over all axes but the batch's and one leaves that; poolings leave axis 1.
    """
    image = types[node.refs()[0]]
    rank = len(image.shape) if isinstance(image, TensorType) else 0
    if node.op != AVERAGE[2]:
        return 1 if rank == (3 if node.op == AVERAGE[3] else 4) else None
    axes = node.args[1] if len(node.args) > 1 else None
    if not isinstance(axes, tuple) or rank not in (3, 4):
        return None
    averaged = {axis % rank for axis in axes if isinstance(axis, int)}
    left = [axis for axis in range(1, rank) if axis not in averaged]
    fits = len(left) == 1 and 0 not in averaged and left[0] in (1, rank - 1)
    return left[0] if fits and len(axes) == len(averaged) == rank - 2 else None


def _of_rows(args: tuple[Value, ...]) -> tuple[Value, ...]:
    """`avg_pool1d`'s arguments as those of an image one pixel wide."""
    beside: tuple[Value, ...] = (1, 1, 0)
    made: list[Value] = []
    for one, other in zip(args[:3], beside, strict=False):
        first = one[0] if isinstance(one, tuple) and len(one) == 1 else one
        made.append(() if first == () else (first, other))
    return (*made, *args[3:])


def _pooled(size: tuple[int, int], args: tuple[Value, ...]) -> Spans | None:
    """Of `avg_pool2d`, as torch counts."""
    defaults: tuple[Value, ...] = (None, (), (0, 0), False, True, None)
    kernel, stride, padding, ceil, counts_padding, divisor = (*args, *defaults[len(args) :])
    window = [pair(kernel), pair(stride or kernel), pair(padding)]
    if any(one is None for one in window) or not (divisor is None or isinstance(divisor, int)):
        return None
    axes = []
    for axis in range(2):
        k, step, before = (one[axis] for one in window if one is not None)
        if k < 1 or step < 1 or not 0 <= before <= k // 2:
            return None
        spans = _of_axis(size[axis], k, step, before, bool(ceil))
        if spans is None or max(span.divisor for span in spans) > MAX_COUNT:
            return None
        if not counts_padding:
            spans = tuple(span._replace(divisor=span.end - span.begin) for span in spans)
        axes.append(spans)
    if divisor is not None:
        if divisor == 0 or abs(divisor) > MAX_COUNT:
            return None
        axes[0] = tuple(span._replace(divisor=divisor) for span in axes[0])
        axes[1] = tuple(span._replace(divisor=1) for span in axes[1])
    return (axes[0], axes[1]) if _is_counted((axes[0], axes[1])) else None


def _of_axis(size: int, k: int, step: int, before: int, ceil: bool) -> tuple[Span, ...] | None:
    """Windows of an axis; padding counts."""
    n = out_size(size, k, step, (before, before), ceil=ceil)
    if n < 1:
        return None
    spans = []
    for i in range(n):
        begin = i * step - before
        end = min(begin + k, size + before)  # what ceil_mode adds counts for nothing
        spans.append(Span(max(begin, 0), min(end, size), end - begin))
    return tuple(spans) if all(span.begin < span.end for span in spans) else None


def _adapted(size: tuple[int, int], args: tuple[Value, ...]) -> Spans | None:
    """Of `adaptive_avg_pool2d`."""
    wanted = args[0] if len(args) == 1 else None
    if not isinstance(wanted, tuple) or len(wanted) != 2:
        return None
    axes = []
    for n_in, n_out in zip(size, wanted, strict=True):
        if not isinstance(n_out, int) or not 0 < n_out <= MAX_SIZE:
            return None
        ends = [(i * n_in // n_out, -(-(i + 1) * n_in // n_out)) for i in range(n_out)]
        axes.append(tuple(Span(begin, end, end - begin) for begin, end in ends))
    return (axes[0], axes[1]) if _is_counted((axes[0], axes[1])) else None


def _is_counted(spans: Spans) -> bool:
    rows, columns = (max(abs(span.divisor) for span in one) for one in spans)
    return rows * columns <= MAX_COUNT
