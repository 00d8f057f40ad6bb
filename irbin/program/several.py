"""Nodes on several images: channels joined, and pixels that meet one pixel of each image."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

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


def joined(node: Node, types: Types, constants: Collection[str]) -> tuple[str, ...] | None:
    """Names of the float32 images whose channels a node joins, or None if it does not."""
    if node.op != CAT or node.kwargs or not node.args or not isinstance(node.args[0], tuple):
        return None
    parts, axis = node.args[0], node.args[1] if len(node.args) > 1 else 0
    names = [part.name for part in parts if isinstance(part, Ref) and part.name not in constants]
    if len(names) != len(parts) or not 0 < len(names) <= MAX_JOINED or axis not in (1, -3):
        return None
    channels = 0
    for name in names:
        kind, whole = types[name], node.type
        if not isinstance(kind, TensorType) or not isinstance(whole, TensorType):
            return None
        shape = kind.shape
        if kind.dtype != "float32" or len(shape) != 4 or len(whole.shape) != 4:
            return None
        if (shape[0], *shape[2:]) != (whole.shape[0], *whole.shape[2:]):
            return None
        if not all(isinstance(size, int) and size > 0 for size in shape[1:]):
            return None
        channels += int(shape[1])
    fits = isinstance(node.type, TensorType) and node.type.shape[1] == channels
    return tuple(names) if fits and node.type.dtype == "float32" else None  # type: ignore[union-attr]  # looked at


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
