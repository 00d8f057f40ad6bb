"""An activation and what keeps its sign, five nodes of a program, as one before they are fused.

In memory only: kernels compute the one (`FusedStep.keeps_sign`), a packed folder names the five.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from irbin.bits import LEAST
from irbin.program.types import Node, Ref, TensorType, Value, ValueType

KEPT = "kept sign"
"""Operator of the one node: the input, the activation's operator, the activation's other arguments.

No packed folder may name it."""


def with_kept_signs(
    nodes: Sequence[Node],
    types: Mapping[str, ValueType],
    activations: Collection[str],
    outputs: Collection[str],
) -> tuple[Node, ...]:
    """The nodes, where(x < 0, min(y, −LEAST), max(y, 0)) of an activation y of x being one.

    Args:
        nodes: in order.
        types: what names stand for.
        activations: operators of those that kernels compute.
        outputs: names that the program returns.
    """
    by_name = {node.name: node for node in nodes}
    n_readers: dict[str, int] = dict.fromkeys(outputs, 1)
    for node in nodes:
        for name in set(node.refs()):
            n_readers[name] = n_readers.get(name, 0) + 1
    made: dict[str, Node] = {}
    without: set[str] = set()
    for node in nodes:
        parts = _parts(node, by_name) if _has_channels(node) else None
        if parts is None:
            continue
        below, least, most, activation = parts
        alone = {below.name: 1, least.name: 1, most.name: 1, activation.name: 2}
        is_alone = all(n_readers[name] == count for name, count in alone.items())
        if activation.op not in activations or activation.type != node.type or not is_alone:
            continue
        source, *others = activation.args
        if source != below.args[0] or not isinstance(source, Ref):
            continue
        if types[source.name] != node.type:
            continue
        args = (source, activation.op, *others)
        made[node.name] = replace(node, op=KEPT, args=args, kwargs=activation.kwargs)
        without |= alone.keys()
    return tuple(made.get(node.name, node) for node in nodes if node.name not in without)


def without_keeping(node: Node) -> Node:
    """The activation of such a node."""
    source, op, *others = node.args
    return replace(node, op=str(op), args=(source, *others))


def _has_channels(node: Node) -> bool:
    """Whether a kernel takes it whatever stands around it."""
    kind = node.type
    if node.op != "aten.where.self" or not isinstance(kind, TensorType):
        return False
    sizes = kind.shape[1:]
    return kind.dtype == "float32" and bool(sizes) and all(isinstance(n, int) for n in sizes)


def _parts(node: Node, by_name: Mapping[str, Node]) -> tuple[Node, Node, Node, Node] | None:
    """x < 0, min(y, −LEAST), max(y, 0) and y."""
    nodes = [by_name.get(arg.name) if isinstance(arg, Ref) else None for arg in node.args]
    if len(nodes) != 3:
        return None
    below, least, most = nodes
    if below is None or below.op != "aten.lt.Scalar" or below.args[1:] != (0,):
        return None
    if least is None or most is None or not least.args or not most.args:
        return None
    if _bounds(least) != (None, -LEAST) or _bounds(most) != (0, None):
        return None
    source = least.args[0]
    y = by_name.get(source.name) if isinstance(source, Ref) else None
    return None if y is None or most.args[0] != source else (below, least, most, y)


def _bounds(node: Node) -> tuple[Value, Value] | None:
    if node.op != "aten.clamp.default" or node.kwargs.keys() - {"min", "max"}:
        return None
    given = (*node.args[1:], *[None] * (3 - len(node.args)))
    return node.kwargs.get("min", given[0]), node.kwargs.get("max", given[1])
