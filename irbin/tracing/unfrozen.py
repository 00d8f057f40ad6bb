"""Flags `training=self.training`, which tracing freezes, read again when the graph runs."""

from __future__ import annotations

import inspect

from torch import fx


def unfreeze_training(graph: fx.Graph) -> None:
    """Lets functions called with `training=self.training` read the flag at run time again.

    The flag is that of the module whose code makes the call: a part may be in another mode.
    """
    for node in list(graph.nodes):
        place = _training_argument(node)
        if place is None:
            continue
        stack = node.meta.get("nn_module_stack") or {}
        path = str(list(stack.values())[-1][0]) if stack else ""
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
    if isinstance(node.kwargs.get("training"), bool):
        return "training"
    try:
        names = list(inspect.signature(node.target).parameters)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None  # built-in functions have no signature; F.* are Python
    if "training" not in names:
        return None
    position = names.index("training")
    is_given = position < len(node.args) and isinstance(node.args[position], bool)
    return position if is_given else None
