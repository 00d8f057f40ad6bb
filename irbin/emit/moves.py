"""What `runtime` leaves to NumPy, added to a network as calls: copies, and lines of poolings.

All that is added has a place in the arena, given by the same code as the kernels' results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from irbin.errors import LowerError
from irbin.kernels.passes import PoolKernel
from irbin.program.fused import Fused, Item, results
from irbin.program.own import BitPack
from irbin.program.types import Node, Ref, TensorType
from irbin.runtime.arrays import Array, is_in_rows
from irbin.runtime.layers import other_names
from irbin.runtime.memory import Form, Memory, forms, laid_out
from irbin.runtime.views import VIEWS, look
from irbin.runtime.work import Work

LINES = "lines"
"""Operator of memory that a pooling works on."""
N_TOLD = 4
"""Nodes that a refusal names."""


def moves_added(
    work: Work, known: Mapping[str, Any], image: tuple[int, int, int]
) -> tuple[list[Item], dict[str, Form]]:
    """The items with copies among them, and all that is to be placed.

    Raises:
        LowerError: see `placed`.
    """
    items, made = _with_image_in_rows(work, image)
    items = _with_lines(items, work, made)
    refused: list[Node] = []
    unknown: set[str] = set()  # what is made of a refused node's result is no fault of its own
    for item in items:
        if unknown.intersection(item.refs()):
            unknown.update(results(item))
        elif isinstance(item, Node) and item.name not in known and item.name not in made:
            memory = laid_out(items, made, known, {}, {})
            form = None if item.name in memory.views else _moved(item, memory, known)
            if form is not None:
                made[item.name] = form
            elif item.name not in memory.views:
                refused.append(item)
                unknown.add(item.name)
    if refused:
        told = ", ".join(f"`{node.name}` ({node.op})" for node in refused[:N_TOLD])
        more = f" and {len(refused) - N_TOLD} more" if len(refused) > N_TOLD else ""
        raise LowerError(
            f"expected nodes that C is written for, got {told}{more}; run the packed folder with "
            "`irbin.load`"
        )
    memory = laid_out(items, made, known, {}, {})
    _refuse_turned(items, memory)
    return items, made


def _with_image_in_rows(
    work: Work, image: tuple[int, int, int]
) -> tuple[list[Item], dict[str, Form]]:
    """The image turned once, for those that read it and are no convolution of floats."""
    made = forms(work.items, 1)
    readers = [item for item in work.items if _reads_rows(item, work.source)]
    if not readers:
        return list(work.items), made
    name = f"{work.source} in rows"  # no program has a name with spaces
    shape = (1, *image)
    made[name] = Form(shape, np.float32, 1)
    turned = Node(name, "to_rows", (Ref(work.source),), {}, TensorType("float32", shape))
    items: list[Item] = [turned]
    for item in work.items:
        items.append(_reading(item, work.source, name) if item in readers else item)
    return items, made


def _with_lines(items: list[Item], work: Work, made: dict[str, Form]) -> list[Item]:
    """Poolings of something made on the way read lines that are there for that moment alone."""
    added: list[Item] = []
    for item in items:
        kernel = work.kernels[item.name] if isinstance(item, Fused) else None
        if not (isinstance(item, Fused) and isinstance(kernel, PoolKernel) and has_lines(kernel)):
            added.append(item)
            continue
        name = f"lines of {item.name}"
        shape = (1, kernel.n_channels, n_lines(kernel), kernel.geometry.size[1])
        made[name] = Form(shape, np.float32, 1)
        added += [
            Node(name, LINES, (), {}, TensorType("float32", shape)),
            replace(item, others=(*item.others, name)),
        ]
    return added


def _reads_rows(item: Item, image: str) -> bool:
    """Whether an item reads the image, and not as planes."""
    if isinstance(item, Node):
        return item.op == "bitpack" and item.refs()[0] == image
    is_source = item.source == image and not _takes_planes(item)
    return is_source or image in other_names(item)


def _reading(item: Item, old: str, new: str) -> Item:
    """The same item, reading another value."""
    if isinstance(item, Node):
        return replace(item, args=(Ref(new), *item.args[1:]))
    steps = tuple(
        replace(step, operand=new) if step.kind == "residual" and step.operand == old else step
        for step in item.steps
    )
    others = tuple(new if name == old else name for name in item.others)
    is_source = item.source == old and not _takes_planes(item)
    return replace(item, source=new if is_source else item.source, steps=steps, others=others)


def _takes_planes(item: Fused) -> bool:
    return (item.producer or item).kind == "conv"


def _moved(node: Node, memory: Memory, known: Mapping[str, Any]) -> Form | None:
    """What a node that no kernel computes gives, if a copy does; None if not."""
    names = node.refs()
    source = memory.arrays.get(names[0]) if names else None
    if source is None:
        return None
    if node.op == "bitpack":
        own = BitPack.of(node)
        if not is_in_rows(source, own.channel_axis):
            return None
        n_channels = source.shape[own.channel_axis] // own.groups
        outer = [size for axis, size in enumerate(source.shape) if axis != own.channel_axis]
        shape = (*outer, own.groups * -(-n_channels // 8))
        return Form(shape, np.uint8, len(shape) - 1)
    if node.op in VIEWS and source.ndim == 4 and is_in_rows(source, 1):
        if node.op != "aten.reshape.default":
            return None
        shape = look(node, source, known).shape
        return Form(shape, np.float32, len(shape) - 1)
    return None


def _refuse_turned(items: Sequence[Item], memory: Memory) -> None:
    for item in items:
        if not isinstance(item, Fused):
            continue
        for name, axis in _reads(item):
            array = memory.arrays.get(name)
            is_image = array is None and name == item.source and _takes_planes(item)
            if not is_image and (array is None or not is_in_rows(array, _axis(array, axis))):
                raise LowerError(
                    f"node `{item.root.name}` ({item.root.op}): expected `{name}` with its "
                    "channels innermost, got another order; run the packed folder with "
                    "`irbin.load`"
                )


def _reads(item: Fused) -> list[tuple[str, int | None]]:
    """Names that a kernel reads, and the axis that must lie innermost; None for bits' bytes."""
    of_bits = (item.producer or item).kind == "dot"
    first: tuple[str, int | None] = (item.source, None if of_bits else item.channel_axis)
    return [first, *((name, item.channel_axis) for name in other_names(item))]


def _axis(array: Array, axis: int | None) -> int:
    return array.ndim - 1 if axis is None else axis


def has_lines(kernel: PoolKernel) -> bool:
    """Whether what is pooled is made on the way."""
    return kernel.producer is not None or bool(kernel.before)


def n_lines(kernel: PoolKernel) -> int:
    """Rows of what is pooled that are kept: as many as a window reaches over."""
    reach = (kernel.geometry.kernel[0] - 1) * kernel.geometry.dilation[0] + 1
    return min(reach, kernel.geometry.size[0])
