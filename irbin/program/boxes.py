"""Slices and constant padding of images as one: a box, with a value where it reaches beyond."""

from __future__ import annotations

from dataclasses import dataclass, replace

from irbin.axes import BoxAxis
from irbin.program.types import Node, Ref, TensorType, Types, Value

PADDING = ("aten.pad.default", "aten.constant_pad_nd.default")
SLICE = "aten.slice.Tensor"


@dataclass(frozen=True)
class Box:
    """A part of every image, which may reach beyond it."""

    axes: tuple[BoxAxis, BoxAxis, BoxAxis]
    """Of channels, of the first other axis (mostly height), of the last."""
    value: float = 0.0
    """Of what lies beyond."""

    @property
    def is_whole(self) -> bool:
        """Whether it is the image as it is."""
        return all(axis.is_whole for axis in self.axes)

    @property
    def is_border(self) -> bool:
        """Whether it is the image with zeros around it, rows and columns of them."""
        channels, *others = self.axes
        is_inside = all(a.length == a.source and (a.start, a.step) == (0, 1) for a in others)
        return self.value == 0 and channels.is_whole and is_inside

    def then(self, other: Box) -> Box | None:
        """A box of this box as one of the image, or None where that is none."""
        if any(axis.is_padded for axis in self.axes):
            return None
        first, second, third = (
            outer._replace(
                source=inner.source,
                start=inner.start + outer.start * inner.step,
                step=inner.step * outer.step,
            )
            for inner, outer in zip(self.axes, other.axes, strict=True)
        )
        return replace(other, axes=(first, second, third))


def box_of(node: Node, types: Types, channel_axis: int = 1) -> Box | None:
    """The box that a node cuts out of float32 images, or None.

    Args:
        node: any.
        types: what names stand for.
        channel_axis: of the images: 1, or 3 of (batch, height, width, channels).
    """
    source = node.args[0] if node.args else None
    image = types[source.name] if isinstance(source, Ref) else None
    if not isinstance(image, TensorType) or image.dtype != "float32" or len(image.shape) != 4:
        return None
    sizes = [size for size in image.shape[1:] if isinstance(size, int) and size > 0]
    if len(sizes) < 3 or node.kwargs:
        return None
    box = None
    if node.op == SLICE:
        box = _sliced(sizes, node.args[1:])
    elif node.op in PADDING:
        box = _padded(sizes, node.args[1:], has_mode=node.op == PADDING[0])
    if box is None:
        return None
    shape = (image.shape[0], *(axis.size for axis in box.axes))
    if node.type != TensorType("float32", shape):
        return None
    first, second, third = box.axes
    return replace(box, axes=(third, first, second)) if channel_axis == 3 else box


def _sliced(sizes: list[int], args: tuple[Value, ...]) -> Box | None:
    defaults: tuple[Value, ...] = (0, None, None, 1)
    axis, start, end, step = (*args, *defaults[len(args) :])
    if not isinstance(axis, int) or not isinstance(step, int) or step < 1:
        return None
    axes = [BoxAxis(size, 0, size, 0, 1, size) for size in sizes]
    axis %= 4
    if axis == 0:  # images, all of them
        is_all = start in (None, 0) and (end is None or (isinstance(end, int) and end >= 2**62))
        return Box((axes[0], axes[1], axes[2])) if is_all and step == 1 else None
    size = sizes[axis - 1]
    if not all(bound is None or isinstance(bound, int) for bound in (start, end)):
        return None
    begin, behind, step = slice(start, end, step).indices(size)
    count = len(range(begin, behind, step))
    if not count:
        return None
    axes[axis - 1] = BoxAxis(size, 0, count, begin, step, count)
    return Box((axes[0], axes[1], axes[2]))


def _padded(sizes: list[int], args: tuple[Value, ...], *, has_mode: bool) -> Box | None:
    around, *rest = args
    if has_mode:
        mode, *rest = rest or ["constant"]
        if mode != "constant":
            return None
    value = 0.0 if not rest or rest[0] is None else rest[0]
    if not isinstance(around, tuple) or not isinstance(value, int | float) or len(around) > 6:
        return None
    numbers = [n for n in around if isinstance(n, int) and n >= 0]
    if len(numbers) < len(around) or len(around) % 2:
        return None
    numbers += [0] * (6 - len(numbers))
    pairs = [(numbers[i], numbers[i + 1]) for i in (4, 2, 0)]  # the last axis comes first
    first, second, third = (
        BoxAxis(size, before, size, 0, 1, before + size + after)
        for size, (before, after) in zip(sizes, pairs, strict=True)
    )
    return Box((first, second, third), float(value))
