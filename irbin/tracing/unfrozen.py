"""Flags `training=self.training`, which tracing freezes, read again when the graph runs."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn

_FLAGS = ("training", "train")
"""As torch's functions of Python and its operators call it."""


def unfreeze_training(graph: fx.Graph, module: nn.Module) -> None:
    """Lets functions called with `training=self.training` read the flag at run time again.

    The flag is that of the module whose code makes the call: a part may be in another mode. A flag
    that is off while this module trains is one of the source (`F.rrelu(x)`), and stays.

    Args:
        graph: of `module`.
        module: in the modes in which it was traced.
    """
    for node in list(graph.nodes):
        place = _training_argument(node)
        if place is None:
            continue
        stack = node.meta.get("nn_module_stack") or {}
        path = str(list(stack.values())[-1][0]) if stack else ""
        given = node.args[place] if isinstance(place, int) else node.kwargs[place]
        if not given and module.get_submodule(path).training:
            continue
        with graph.inserting_before(node):
            flag = graph.create_node("get_attr", f"{path}.training".removeprefix("."))
        if isinstance(place, int):
            node.update_arg(place, flag)
        else:
            node.update_kwarg(place, flag)


def _training_argument(node: fx.Node) -> int | str | None:
    """Position or keyword of a `training` flag that tracing froze; None if there is none."""
    if node.op != "call_function":
        return None
    for name in _FLAGS:
        if isinstance(node.kwargs.get(name), bool):
            return name
    for names in _parameters(node.target):
        for i, (name, given) in enumerate(zip(names, node.args, strict=False)):
            if name in _FLAGS and isinstance(given, bool):
                return i
    return None


def _parameters(function: Any) -> list[Sequence[str]]:
    """Names of a function's parameters; of each overload, where it is an operator of torch's."""
    try:
        return [list(inspect.signature(function).parameters)]
    except (TypeError, ValueError):  # built-in functions have no signature; F.* are Python
        name = str(getattr(function, "__name__", ""))
        if getattr(torch, name, None) is not function:
            return []
    schemas = torch._C._jit_get_schemas_for_operator(f"aten::{name}")
    return [[a.name for a in schema.arguments] for schema in schemas]
