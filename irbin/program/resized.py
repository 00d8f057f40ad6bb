"""Which interpolations are for our kernels, and what each of their outputs lies between."""

from __future__ import annotations

from irbin.axes import Between
from irbin.program.averages import MAX_SIZE
from irbin.program.types import Node, Ref, TensorType, Types

BILINEAR = "aten.upsample_bilinear2d.vec"
Places = tuple[tuple[Between, ...], tuple[Between, ...]]
"""Of each output row, of each output column."""


def places_between(node: Node, types: Types) -> Places | None:
    """What a bilinear interpolation's outputs lie between, or None if it is left to torch.

    Left to torch: other than float32 images (batch, channels, height, width) of known size.
    """
    if node.op != BILINEAR or node.kwargs or len(node.args) != 4:
        return None
    source, _, corners, factors = node.args
    image = types[source.name] if isinstance(source, Ref) else None
    made = node.type
    if not isinstance(image, TensorType) or not isinstance(made, TensorType):
        return None
    if image.dtype != "float32" or made.dtype != "float32" or len(image.shape) != 4:
        return None
    if made.shape[:2] != image.shape[:2] or len(made.shape) != 4 or not isinstance(corners, bool):
        return None
    sizes = [n for n in (*image.shape[1:], *made.shape[2:]) if isinstance(n, int)]
    if len(sizes) < 5 or not all(0 < n <= MAX_SIZE for n in sizes):
        return None
    factors = factors if isinstance(factors, tuple) else (None, None)
    axes = []
    for before, after, factor in zip(sizes[1:3], sizes[3:], factors, strict=False):
        is_number = isinstance(factor, int | float) and not isinstance(factor, bool)
        if is_number and float(factor) <= 0:  # type: ignore[arg-type]  # looked at
            return None
        step = 1 / float(factor) if is_number else before / after  # type: ignore[arg-type]  # looked at
        axes.append(_of_axis(before, after, step, has_corners=corners))
    return (axes[0], axes[1]) if len(axes) == 2 else None


def _of_axis(before: int, after: int, step: float, *, has_corners: bool) -> tuple[Between, ...]:
    places = []
    for i in range(after):
        if has_corners:
            at = i * (before - 1) / (after - 1) if after > 1 else 0.0
        else:
            at = max((i + 0.5) * step - 0.5, 0.0)
        first = min(int(at), before - 1)
        second = min(first + 1, before - 1)
        weight = min(at - first, 1.0)
        places.append(Between(first, second, 1 - weight, weight))
    return tuple(places)
