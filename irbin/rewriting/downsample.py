"""Shortcuts that halve an image average its pixels instead of dropping three of four.

As in ResNet-D (He et al., CVPR 2019, §4.2), ReActNet and ReCU. In a binary network the shortcut is
what carries values past the signs, so what it drops is lost.
"""

from __future__ import annotations

import operator
from typing import cast

from torch import fx, nn

from irbin.errors import ConvertError
from irbin.records.plan import Plan
from irbin.tracing.flow import ADDITIONS, Flow, shape
from irbin.tracing.signs import function_name

Stride = tuple[int, int]
"""(vertical, horizontal)."""


def average_downsamples(
    traced: fx.GraphModule,
    plan: Plan | None = None,  # noqa: ARG001 - as all have
) -> dict[str, str]:
    """Puts average pooling in place of every stride on a shortcut, in place on the graph.

    A strided 1×1 convolution that is a shortcut gets the pooling in front and loses its stride; a
    strided slice without parameters becomes the pooling. Both give the sizes they gave before.

    Args:
        traced: from `trace_graph`, of the float network.
        plan: not used; the graph alone tells what has a stride.

    Returns:
        By the place of the shortcut, what was put there.

    Raises:
        ConvertError: no shortcut has a stride.
    """
    flow = Flow(traced)
    convs, slices = _strided_convs(flow), _strided_slices(flow)
    if not convs and not slices:
        raise ConvertError(
            '`downsample="avgpool"`: expected a shortcut with a stride, a 1×1 convolution or a '
            "slice, but the network has none; use `downsample='keep'`"
        )
    for node, stride in convs.items():
        pool = _pool(traced, node, stride)
        pool.meta["shape"] = shape(pool.all_input_nodes[0])[:2] + shape(node)[2:]
        node.replace_input_with(pool.all_input_nodes[0], pool)
        setattr(flow.module(node), "stride", (1, 1))  # noqa: B010 - mypy sees tensors only
    for node, stride in slices.items():
        pool = _pool(traced, node, stride)
        pool.meta["shape"] = shape(node)
        node.replace_all_uses_with(pool)
        traced.graph.erase_node(node)
    traced.graph.lint()
    traced.recompile()
    places = {str(n.target): s for n, s in convs.items()}
    places |= {_place(n): s for n, s in slices.items()}
    return {place: f"average pool {down}×{right}" for place, (down, right) in places.items()}


def _strided_convs(flow: Flow) -> dict[fx.Node, Stride]:
    """Calls of 1×1 convolutions that are shortcuts wherever they are called."""
    shortcuts = flow.shortcuts()
    elsewhere = {n.target for n in flow.nodes if n.op == "call_module" and n not in shortcuts}
    strides: dict[fx.Node, Stride] = {}
    for node in flow.nodes:
        if node not in shortcuts or node.target in elsewhere:
            continue
        conv = cast(nn.Conv2d, flow.module(node))
        if conv.stride != (1, 1) and conv.padding in ((0, 0), "valid"):
            strides[node] = cast(Stride, conv.stride)
    return strides


def _strided_slices(flow: Flow) -> dict[fx.Node, Stride]:
    """Slices in shortcuts without weights."""
    strides: dict[fx.Node, Stride] = {}
    for addition in flow.nodes:
        operands = addition.all_input_nodes
        if function_name(addition) not in ADDITIONS or len(operands) != 2:
            continue
        for bypass, main in (operands, operands[::-1]):
            for node in flow.weightless_ancestors(bypass):
                stride = _slice_stride(node)
                if stride is not None and flow.goes_round(node, main):
                    strides[node] = stride
    return strides


def _slice_stride(node: fx.Node) -> Stride | None:
    """The stride of `x[:, :, ::down, ::right]` or `x[..., ::down, ::right]`; None of all else."""
    if node.target is not operator.getitem or len(shape(node)) != 4:
        return None
    index = node.args[1]
    if not isinstance(index, tuple) or len(index) < 3:
        return None
    *before, down, right = index
    steps: list[int] = []
    for part in (down, right):
        if not isinstance(part, slice) or part.start not in (None, 0) or part.stop is not None:
            return None
        steps.append(1 if part.step is None else part.step)
    is_whole = before in ([slice(None)] * 2, [...])
    is_known = all(isinstance(step, int) for step in steps)  # and not computed
    return (steps[0], steps[1]) if is_whole and is_known and steps != [1, 1] else None


def _pool(traced: fx.GraphModule, node: fx.Node, stride: Stride) -> fx.Node:
    """A pooling of what `node` reads, in front of it."""
    name = f"avgpool_{node.name}"
    traced.add_submodule(name, nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False))
    with traced.graph.inserting_before(node):
        return traced.graph.call_module(name, (node.all_input_nodes[0],))


def _place(node: fx.Node) -> str:
    """The module whose forward `node` is written in, or its own name in the root's."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return str(stack[-1][0]) if stack else node.name
