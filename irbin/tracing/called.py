"""Calls of a graph as modules: of one function, or of several that hang together."""

from __future__ import annotations

from typing import Any

from torch import fx, nn

from irbin.binary.activations import Called, Composed, Place, Step
from irbin.tracing.signs import function_name, works_in_place

_MODULES: dict[str, type[nn.Module]] = {
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "hardswish": nn.Hardswish,
}


def composed(nodes: list[fx.Node], source: fx.Node, modules: dict[str, nn.Module]) -> nn.Module:
    """The module that computes the first of `nodes`, all of which come from `source`."""
    order = {n: i for i, n in enumerate(source.graph.nodes)}
    places, steps = {source: Place(0)}, list[Step]()
    parts: list[nn.Module] = []
    for node in sorted(nodes, key=order.__getitem__):
        target: Any = node.target
        if node.op == "call_module":
            target = len(parts)
            parts.append(modules[str(node.target)])
        args = fx.node.map_arg(node.args, places.__getitem__)
        kwargs = fx.node.map_arg(node.kwargs, places.__getitem__)
        steps.append(Step(target, _plain(tuple(args)), _plain(dict(kwargs))))
        places[node] = Place(len(steps))
    return Composed(tuple(steps), parts)


def as_module(node: fx.Node) -> nn.Module | None:
    """The module that computes what `node`, a call of a function or method with one tensor, does.

    One of torch's where there is one; None where the tensor is not the first argument alone.
    """
    name, in_place = function_name(node), works_in_place(node, {})
    if name == "gelu":
        return nn.GELU(str(node.kwargs.get("approximate", "none")))
    if name in _MODULES:
        return _MODULES[name](inplace=in_place)
    args, kwargs = list(node.args), dict(node.kwargs)
    x = args.pop(0) if args else kwargs.pop("input", None)
    if not isinstance(x, fx.Node) or _holds_node((args, kwargs)):
        return None
    return Called(node.target, tuple(map(_plain, args)), {k: _plain(v) for k, v in kwargs.items()})


def _holds_node(value: Any) -> bool:
    nodes: list[fx.Node] = []
    fx.node.map_arg(value, lambda node: nodes.append(node) or node)  # type: ignore[func-returns-value]
    return bool(nodes)


def _plain(value: Any) -> Any:
    """Lists, tuples and dictionaries in place of fx's own."""
    if isinstance(value, Place):
        return value
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return (list if isinstance(value, list) else tuple)(map(_plain, value))
    return value
