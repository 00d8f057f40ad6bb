"""Activations that have the sign of their input but lose it to rounding, and the layers behind.

GELU(x) is below zero for every x below zero, yet float32 gives −0.0 from x = −5.5 on, whose sign is
+1; from where on depends on the processor. Hard-swish is 0 below −3 by definition. For all that
never have the other sign than their input, the sign of the input is taken.
"""

from __future__ import annotations

from typing import Any

from torch import fx, nn

from irbin.binary.activations import Called
from irbin.tracing.flow import Flow, shape
from irbin.tracing.loses_sign import loses_sign
from irbin.tracing.signs import function_name, moves_values, works_in_place

_MODULES: dict[str, type[nn.Module]] = {
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "hardswish": nn.Hardswish,
}
_SCALING = {"mul", "imul", "multiply", "div", "truediv"}


def activations_in_front(flow: Flow, node: fx.Node) -> list[str]:
    """Those that `node`, a layer, sees past pooling, joining, moving and products.

    Module paths, and graph node names with `()` for functions.
    """
    activations: dict[str, None] = {}
    todo, seen = node.all_input_nodes[:1], set(node.all_input_nodes[:1])
    while todo:
        at = todo.pop()
        passes = moves_values(at, flow.modules) or function_name(at) in _SCALING
        name = "" if passes else _activation(flow, at)
        if name:
            activations[name] = None
        elif passes:
            new = [i for i in at.all_input_nodes if i not in seen]
            seen.update(new)
            todo += new
    return list(activations)


def _activation(flow: Flow, node: fx.Node) -> str:
    if node.op == "call_module":
        return str(node.target) if loses_sign(flow.module(node)) else ""
    # of one tensor, and nothing else that is not known before
    if node.op not in ("call_function", "call_method") or len(node.all_input_nodes) != 1:
        return ""
    is_each_by_itself = shape(node) and shape(node) == shape(node.all_input_nodes[0])
    called = as_module(node) if is_each_by_itself else None
    return f"{node.name}()" if called is not None and loses_sign(called) else ""


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
    """Lists in place of fx's own."""
    return [_plain(v) for v in value] if isinstance(value, list) else value
