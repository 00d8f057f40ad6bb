"""Activations that have the sign of their input but lose it to rounding, and the layers behind.

GELU(x) is below zero for every x below zero, yet float32 gives −0.0 from x = −5.5 on, whose sign is
+1; from where on depends on the processor. Hard-swish is 0 below −3 by definition. For all that
never have the other sign than their input, the sign of the input is taken.
"""

from __future__ import annotations

import copy

import torch
from torch import fx, nn

from irbin.network.flow import Flow
from irbin.network.signs import function_name, moves_values

_FUNCTIONS = {"gelu", "silu", "mish", "hardswish"}
_SCALING = {"mul", "imul", "multiply", "div", "truediv"}


def activations_in_front(flow: Flow, node: fx.Node) -> list[str]:
    """Those that `node`, a layer, sees past pooling, joining, moving and products.

    Module paths, and graph node names with `()` for functions.
    """
    found: dict[str, None] = {}
    todo, seen = node.all_input_nodes[:1], set(node.all_input_nodes[:1])
    while todo:
        at = todo.pop()
        name = _activation(flow, at)
        if name:
            found[name] = None
        elif moves_values(at, flow.modules) or function_name(at) in _SCALING:
            new = [i for i in at.all_input_nodes if i not in seen]
            seen.update(new)
            todo += new
    return list(found)


def _activation(flow: Flow, node: fx.Node) -> str:
    if node.op == "call_module" and loses_sign(flow.module(node)):
        return str(node.target)
    return f"{node.name}()" if function_name(node) in _FUNCTIONS else ""


def loses_sign(module: nn.Module) -> bool:
    """Whether `module` computes, number by number, what never has the other sign than its input.

    And is zero for some inputs below zero, but not for all. Found by running it.
    """
    if any(True for _ in module.parameters()) or any(True for _ in module.children()):
        return False
    size = torch.logspace(-3, 2.5, 111)
    x = torch.cat([-size, size])
    try:
        run = not_in_place(module).eval()
        with torch.no_grad():
            y, flipped = run(x.clone()), run(x.flip(0))
    except Exception:  # raises whatever the module's own code does with a vector
        return False
    if not isinstance(y, torch.Tensor) or y.shape != x.shape or not y.is_floating_point():
        return False
    if not torch.allclose(y.flip(0), flipped):
        return False
    below, above = y[: len(size)], y[len(size) :]
    keeps = bool((below <= 0).all()) and bool((above >= 0).all())
    return keeps and bool((below < 0).any()) and bool((below == 0).any())


def not_in_place(module: nn.Module) -> nn.Module:
    """A copy of an activation that leaves its input alone."""
    made = copy.deepcopy(module)
    if vars(made).get("inplace") is True:
        setattr(made, "inplace", False)  # noqa: B010 - mypy sees tensors only
    return made


def as_module(node: fx.Node) -> nn.Module:
    """The module of torch that computes what `node`, a function's call, does."""
    name, in_place = function_name(node), node.kwargs.get("inplace") is True
    if name == "gelu":
        approximate = node.kwargs.get("approximate", "none")
        return nn.GELU(str(approximate))
    kinds = {"silu": nn.SiLU, "mish": nn.Mish, "hardswish": nn.Hardswish}
    return kinds[name](inplace=in_place)
