"""Sizes behind a window that walks over an image: convolutions, poolings, columns of patches."""

from __future__ import annotations

import math
from collections.abc import Callable

from irbin.bounds import MAX_ELEMENTS, MAX_PRODUCTS
from irbin.program.sized import Call, Misfit, Shape, axis_of, bounded


def _walk(call: Call, shape: Shape, kernel: Shape, *, ceil: bool = False) -> Shape:
    """Sizes behind a window that walks over the last axes."""
    n_axes = len(kernel)
    if not kernel or min(kernel) < 1:
        raise Misfit(f"a window of {list(kernel)}")
    stride = call.numbers("stride", n_axes, 1)
    if "kernel_size" in call.given and not call.numbers("stride"):
        stride = kernel
    dilation = call.numbers("dilation", n_axes, 1)
    mode = call.given.get("padding")
    padding = (0,) * n_axes if isinstance(mode, str) else call.numbers("padding", n_axes)
    if len(shape) <= n_axes:
        raise Misfit(f"expected more than {n_axes} axes, got {list(shape)}")
    inner = shape[-n_axes:]
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    if mode == "same":
        if any(s != 1 for s in stride):
            raise Misfit("a stride beside the padding `same`")
        padded = [s + r - 1 for s, r in zip(inner, reach, strict=True)]
    else:
        padded = [s + 2 * p for s, p in zip(inner, padding, strict=True)]
    if any(r > s for r, s in zip(reach, padded, strict=True)):
        raise Misfit(f"a window that reaches over {reach} pixels of {padded}")
    bounded(call, math.prod(shape[:-n_axes]) * math.prod(padded), MAX_ELEMENTS, "padded pixels")
    sizes = []
    for i in range(n_axes):
        steps, rest = divmod(padded[i] - reach[i], stride[i])
        size = steps + 1
        # a window rounded up must begin inside the image or its left border
        if ceil and rest and size * stride[i] < inner[i] + padding[i]:
            size += 1
        sizes.append(size)
    return tuple(sizes)


def _groups(call: Call) -> int:
    """Into how many the channels are divided, which a program may compute from N."""
    groups = call.number("groups", 1)
    if groups < 1:
        raise Misfit(f"{groups} groups")
    return groups


def conv(n_axes: int) -> Callable[[Call], Shape]:
    """The rule of a convolution along so many axes."""

    def rule(call: Call) -> Shape:
        image, weight = call.shape("input"), call.shape("weight")
        groups = _groups(call)
        if len(weight) != n_axes + 2 or len(image) not in (n_axes + 1, n_axes + 2):
            raise Misfit(f"images {list(image)} and weights {list(weight)}")
        if image[-n_axes - 1] != weight[1] * groups or weight[0] % groups or 0 in weight:
            raise Misfit(f"{image[-n_axes - 1]} channels, weights {list(weight)}, {groups} groups")
        inner = _walk(call, image, weight[2:])
        result = (*image[: -n_axes - 1], weight[0], *inner)
        bounded(call, math.prod(result) * math.prod(weight[1:]), MAX_PRODUCTS, "multiply-adds")
        return result

    return rule


def transposed(call: Call) -> Shape:
    """Of a transposed convolution of images."""
    image, weight, groups = call.shape("input"), call.shape("weight"), _groups(call)
    if len(weight) != 4 or len(image) not in (3, 4) or image[-3] != weight[0] or 0 in weight:
        raise Misfit(f"images {list(image)} and weights {list(weight)}")
    names = (("stride", 1), ("padding", 0), ("dilation", 1), ("output_padding", 0))
    stride, padding, dilation, extra = (call.numbers(name, 2, d) for name, d in names)
    inner = [
        (image[-2 + i] - 1) * stride[i]
        - 2 * padding[i]
        + dilation[i] * (weight[2 + i] - 1)
        + extra[i]
        + 1
        for i in range(2)
    ]
    result = (*image[:-3], weight[1] * groups, *inner)
    bounded(call, math.prod(image) * math.prod(weight[1:]), MAX_PRODUCTS, "multiply-adds")
    columns = math.prod(weight[1:]) * groups * math.prod(image[-2:])  # that torch lays out
    bounded(call, columns, MAX_ELEMENTS, "elements on the way")
    return result


def pool(n_axes: int) -> Callable[[Call], Shape]:
    """The rule of a pooling along so many axes."""

    def rule(call: Call) -> Shape:
        shape, kernel = call.shape("self"), call.numbers("kernel_size", n_axes)
        inner = _walk(call, shape, kernel, ceil=bool(call.given.get("ceil_mode", False)))
        result = (*shape[:-n_axes], *inner)
        bounded(call, math.prod(result) * math.prod(kernel), MAX_PRODUCTS, "comparisons")
        return result

    return rule


def im2col(call: Call) -> Shape:
    """Of an image's patches as columns."""
    shape, kernel = call.shape("self"), call.numbers("kernel_size", 2)
    inner = _walk(call, shape, kernel)
    return (*shape[:-3], shape[-3] * math.prod(kernel), math.prod(inner))


def col2im(call: Call) -> Shape:
    """Of an image made of columns."""
    shape, kernel = call.shape("self"), call.numbers("kernel_size", 2)
    if len(shape) not in (2, 3) or shape[-2] % math.prod(kernel):
        raise Misfit(f"columns {list(shape)} of a window {list(kernel)}")
    size = call.numbers("output_size", 2)
    return (*shape[:-2], shape[-2] // math.prod(kernel), *size)


def unfold(call: Call) -> Shape:
    """Of windows along an axis."""
    shape, size, step = call.shape("self"), call.number("size"), call.number("step")
    axis = axis_of(call.number("dimension"), len(shape))
    if step < 1 or not 0 <= size <= shape[axis]:
        raise Misfit(f"windows of {size} each {step} of {shape[axis]}")
    return (*shape[:axis], (shape[axis] - size) // step + 1, *shape[axis + 1 :], size)
