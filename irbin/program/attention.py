"""Which attentions are for our kernels, and where their queries, keys and values lie in memory."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from irbin.errors import ArtifactError
from irbin.program.fused import Attention, Look
from irbin.program.graph import LOOKS, Graph
from irbin.program.shapes import sizes
from irbin.program.types import Node, Ref, TensorType, Value, fixed

ATTENTION = "aten.scaled_dot_product_attention.default"
RESHAPE = "aten.reshape.default"
WINDOWS = ("bconv2d", "aten.conv2d.default")
"""Operators whose results have their channels innermost in memory, and second in their shape."""
MAX_LOOKED_AT = 2**28
"""Numbers of a value whose parts are found by looking at one like it."""
_TRIED = (2, 3)
"""Batch sizes at which places are computed: they must not depend on it."""


def attention_of(graph: Graph, node: Node) -> Attention | None:
    """The attention that a node is, or None if it is left to torch.

    Left to torch: other types than float32 (batch, heads, rows, numbers), masks that are computed
    or hold truth values, causal ones, and rows that lie in no order.
    """
    settings = _settings(node)
    if settings is None:
        return None
    scale, mask = settings
    names = node.refs()[:3]
    kinds = [graph.types[name] for name in names]
    shapes = [kind.shape for kind in kinds if isinstance(kind, TensorType) and _is_float(kind)]
    if len(shapes) < 3 or any(name in graph.constants for name in names):
        return None
    batch, n_heads, n_queries, depth = shapes[0]
    n_keys, width = shapes[2][2:]
    if shapes[1:] != [(batch, n_heads, n_keys, depth), (batch, n_heads, n_keys, width)]:
        return None
    if node.type != TensorType("float32", (batch, n_heads, n_queries, width)):
        return None
    if mask is not None and not _adds(graph, mask, (1, n_heads, n_queries, n_keys)):
        return None
    looks = [look_at(graph, name) for name in names]
    seen = tuple(look for look in looks if look is not None)
    if len(seen) < 3:
        return None
    return Attention(
        fixed(n_heads),
        fixed(n_queries),
        fixed(n_keys),
        fixed(depth),
        fixed(width),
        1 / math.sqrt(fixed(depth)) if scale is None else scale,
        mask,
        (seen[0], seen[1], seen[2]),
    )


class Joined(NamedTuple):
    """The nodes behind an attention that put its heads side by side."""

    turned: Node
    """A transposition."""
    root: Node
    """A reshape."""
    channel_axis: int
    """Of its result, along which heads and their numbers lie."""


def in_rows(graph: Graph, node: Node) -> Joined | None:
    """What puts an attention's heads side by side, or None.

    Rows may be spread over several axes. Either (batch, rows, heads, numbers) whose last two axes
    are joined, or (batch, heads, numbers, rows) whose second and third are.
    """
    turned = graph.only_reader(node.name)
    if not isinstance(turned, Node) or not isinstance(node.type, TensorType):
        return None
    batch, n_heads, n_rows, width = node.type.shape
    is_last = True
    match turned.op, turned.args[1:]:
        case "aten.transpose.int", (1, 2) | (2, 1) | (-3, -2) | (-2, -3):
            pass
        case "aten.permute.default", ((0, 2, 1, 3),):
            pass
        case "aten.transpose.int", (2, 3) | (3, 2) | (-2, -1) | (-1, -2):
            is_last = False
        case "aten.permute.default", ((0, 1, 3, 2),):
            is_last = False
        case _:
            return None
    root = graph.only_reader(turned.name)
    if not isinstance(root, Node) or root.op != RESHAPE or root.refs()[0] != turned.name:
        return None
    kind = root.type
    if not isinstance(kind, TensorType) or len(kind.shape) < 3 or kind.dtype != "float32":
        return None
    first, *others = kind.shape
    channels = others.pop() if is_last else others.pop(0)
    if first != batch or not all(isinstance(size, int) for size in (*others, channels)):
        return None
    fits = math.prod(map(fixed, others)) == n_rows and channels == fixed(n_heads) * fixed(width)
    return Joined(turned, root, len(others) + 1 if is_last else 1) if fits else None


def look_at(graph: Graph, name: str) -> Look | None:
    """Where a value's rows lie, in the memory of the first value that they can be seen in."""
    chain: list[Node] = []
    while True:
        node = graph.node(name)
        if node is None or node.op not in LOOKS or node.refs()[:1] == ():
            break
        chain.insert(0, node)
        name = node.refs()[0]
    while True:
        source = chain[0].refs()[0] if chain else name
        look = _seen(graph, source, chain)
        if look is not None or not chain:
            return look
        name = chain.pop(0).name  # a copy: its result lies in order itself


def _seen(graph: Graph, source: str, chain: list[Node]) -> Look | None:
    kind = graph.types[source]
    if not isinstance(kind, TensorType) or kind.dtype != "float32" or len(kind.shape) < 2:
        return None
    axis = graph.innermost(source)
    if axis is None:
        node = graph.node(source)
        is_window = node is not None and node.op in WINDOWS and len(kind.shape) == 4
        axis = 1 if is_window else len(kind.shape) - 1
    places = {_place(kind, axis, chain, n) for n in _TRIED}
    (place,) = places if len(places) == 1 else (None,)
    return None if place is None else Look(source, axis, *place)


def _place(
    kind: TensorType, axis: int, chain: list[Node], n: int
) -> tuple[int, int, int, int] | None:
    """(size, offset, head, row) for n images, by looking at an array that nobody fills."""
    try:
        shape = list(sizes(kind, n))
        if math.prod(shape) > MAX_LOOKED_AT:
            return None
        shape.append(shape.pop(axis))
        memory = np.empty(shape, np.int8)
        seen = np.moveaxis(memory, -1, axis)
        for node in chain:
            seen = shown(node, seen, n)
        if seen.ndim != 4 or not np.may_share_memory(seen, memory) or len(memory) != len(seen):
            return None
    except (ArtifactError, ValueError, TypeError, IndexError, MemoryError):
        return None
    image, head, row, number = seen.strides
    size = memory.size // n
    offset = seen.__array_interface__["data"][0] - memory.__array_interface__["data"][0]
    in_order = image == size and (number == 1 or seen.shape[3] == 1) and min(head, row) >= 0
    return (size, offset, head, row) if in_order else None


def shown(node: Node, array: NDArray[np.int8], n: int) -> NDArray[np.int8]:
    """What a node of `LOOKS` shows of an array; its declared shape is what it must have.

    Args:
        node: it reads `array` first.
        array: its first argument, as it lies in memory.
        n: images.

    Raises:
        TypeError, ValueError, IndexError: it would move numbers, or is another node.
        ArtifactError: its declared shape is none.
    """
    args = node.args[1:]
    kind = node.type
    if node.kwargs or not isinstance(kind, TensorType) or not array.size:
        raise TypeError(node.op)
    shape = sizes(kind, n)
    made: Any = None
    match node.op, args:
        case "aten.permute.default", (tuple(axes),):
            made = array.transpose([axis for axis in axes if isinstance(axis, int)])
        case "aten.transpose.int", (int(one), int(other)):
            made = array.swapaxes(one, other)
        case "aten.select.int", (int(axis), int(index)):
            made = np.moveaxis(array, axis, 0)[index]
        case "aten.slice.Tensor", (int(axis), start, end, *step):
            part = slice(start, end, *step)
            made = np.moveaxis(np.moveaxis(array, axis, 0)[part], 0, axis)
        case "aten.expand.default", (tuple(), *_):
            made = np.broadcast_to(array, shape)
        case _:
            made = array.reshape(shape)
            if not np.may_share_memory(made, array):
                raise ValueError(node.op)
    if made.shape != shape:
        raise ValueError(node.op)
    return made  # type: ignore[no-any-return]  # an array


def _settings(node: Node) -> tuple[float | None, str | None] | None:
    """(scale, mask) of plain attention."""
    if node.op != ATTENTION or len(node.args) < 3:
        return None
    if not all(isinstance(arg, Ref) for arg in node.args[:3]):
        return None
    names = ("attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")
    given: dict[str, Value] = {**dict(zip(names, node.args[3:], strict=False)), **node.kwargs}
    mask, scale = given.get("attn_mask"), given.get("scale")
    if any(given.get(name) for name in ("dropout_p", "is_causal", "enable_gqa")):
        return None
    if not (mask is None or isinstance(mask, Ref)) or isinstance(scale, bool):
        return None
    if not (scale is None or isinstance(scale, int | float)):
        return None
    is_number = scale is None or math.isfinite(scale)
    return (scale, None if mask is None else mask.name) if is_number else None


def _is_float(kind: TensorType) -> bool:
    fits = kind.dtype == "float32" and len(kind.shape) == 4
    return fits and all(isinstance(size, int) and size > 0 for size in kind.shape[1:])


def _adds(graph: Graph, mask: str, whole: tuple[int | str, ...]) -> bool:
    """Whether a constant may be added to products: a size of it is 1 or theirs."""
    kind = graph.types[mask]
    if mask not in graph.constants or not isinstance(kind, TensorType) or kind.dtype != "float32":
        return False
    shape = (1,) * (4 - len(kind.shape)) + kind.shape
    return len(shape) == 4 and all(
        size in (1, most) for size, most in zip(shape, whole, strict=True)
    )
