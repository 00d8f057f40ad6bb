"""Nodes on several tensors: channels joined, images that meet a pixel each, pairs of one shape."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, NamedTuple

from irbin.program.types import Node, Ref, TensorType, Types

CAT = "aten.cat.default"
Meeting = Literal["multiply", "add", "subtract"]
MEETINGS: dict[str, Meeting] = {
    "aten.mul.Tensor": "multiply",
    "aten.add.Tensor": "add",
    "aten.sub.Tensor": "subtract",
}
"""Operators of two tensors that may meet pixel by pixel."""
MAX_JOINED = 256
"""Images that are joined at the most."""


class Joined(NamedTuple):
    """What a node joins."""

    names: tuple[str, ...]
    """Of the images."""
    channel_axis: int
    """Along which they are joined: 1, or 3 of (batch, height, width, channels)."""


def joined(node: Node, types: Types, constants: Collection[str]) -> Joined | None:
    """The float32 images whose channels a node joins, or None if it does not."""
    if node.op != CAT or node.kwargs or not node.args or not isinstance(node.args[0], tuple):
        return None
    parts, axis = node.args[0], node.args[1] if len(node.args) > 1 else 0
    names = [part.name for part in parts if isinstance(part, Ref) and part.name not in constants]
    if len(names) != len(parts) or not 0 < len(names) <= MAX_JOINED or axis not in (1, 3, -3, -1):
        return None
    axis, channels = int(axis) % 4, 0
    for name in names:
        kind, whole = types[name], node.type
        if not isinstance(kind, TensorType) or not isinstance(whole, TensorType):
            return None
        shape = kind.shape
        if kind.dtype != "float32" or len(shape) != 4 or len(whole.shape) != 4:
            return None
        if (*shape[:axis], *shape[axis + 1 :]) != (*whole.shape[:axis], *whole.shape[axis + 1 :]):
            return None
        if not all(isinstance(size, int) and size > 0 for size in shape[1:]):
            return None
        channels += int(shape[axis])
    fits = isinstance(node.type, TensorType) and node.type.shape[axis] == channels
    is_float = fits and node.type.dtype == "float32"  # type: ignore[union-attr]  # looked at
    return Joined(tuple(names), axis) if is_float else None


def met(node: Node, types: Types, constants: Collection[str]) -> tuple[str, str, Meeting] | None:
    """(image, pixel, operation) of a node on (batch, channels, height, width) and (…, 1, 1).

    None where it is another one, or a difference from the pixel.
    """
    if node.op not in MEETINGS or len(node.args) != 2 or any(v != 1 for v in node.kwargs.values()):
        return None
    names = [arg.name for arg in node.args if isinstance(arg, Ref) and arg.name not in constants]
    if len(names) != 2 or not isinstance(node.type, TensorType) or names[0] == names[1]:
        return None
    if node.type.dtype != "float32" or len(node.type.shape) != 4:
        return None
    meeting = MEETINGS[node.op]
    pixel = TensorType("float32", (*node.type.shape[:2], 1, 1))
    if not all(isinstance(size, int) and size > 0 for size in node.type.shape[1:]):
        return None
    for image, other in (names, names[::-1]):
        if types[image] == node.type and types[other] == pixel and node.type != pixel:
            return (image, other, meeting) if meeting != "subtract" or image == names[0] else None
    return None


def alike(node: Node, types: Types, constants: Collection[str]) -> tuple[str, str, Meeting] | None:
    """(one, other, operation) of a product or difference of two float32 tensors of one shape.

    None where it is another one; sums are steps.
    """
    meeting = MEETINGS.get(node.op, "add")
    if meeting == "add" or len(node.args) != 2 or any(v != 1 for v in node.kwargs.values()):
        return None
    names = [arg.name for arg in node.args if isinstance(arg, Ref) and arg.name not in constants]
    kind = node.type
    if len(names) != 2 or not isinstance(kind, TensorType) or kind.dtype != "float32":
        return None
    if len(kind.shape) < 2 or any(types[name] != kind for name in names):
        return None
    return names[0], names[1], meeting
