"""Activations that have the sign of their input but lose it to rounding, and the layers behind.

GELU(x) is below zero for every x below zero, yet float32 gives −0.0 from x = −5.5 on, whose sign is
+1; from where on depends on the processor. Hard-swish is 0 below −3 by definition. x − tanh(x) is
x³/3 near zero, where its rounding is larger than that. For all that never have the other sign than
their input, the sign of the input is taken.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import fx, nn

from irbin.binary.activations import SignKept
from irbin.tracing.called import as_module, composed
from irbin.tracing.flow import Flow, shape
from irbin.tracing.loses_sign import loses_sign
from irbin.tracing.signs import (
    function_name,
    is_elementwise_activation,
    moves_values,
    works_in_place,
)
from irbin.tracing.tracer import is_norm

_SCALING = {"mul", "imul", "multiply", "div", "truediv"}
_MAY_ALIAS = {"contiguous", "detach", "float", "double", "half", "bfloat16"}
_SUMS = {"add", "iadd", "sub", "isub", "rsub", "subtract"}
_VIEWING = """
view view_as reshape flatten unflatten getitem transpose swapaxes movedim permute t squeeze
unsqueeze narrow select diagonal unbind chunk split tensor_split
"""
_VIEWS = {*_VIEWING.split(), *_MAY_ALIAS}
_SAME_PLACE = _MAY_ALIAS | {"clone"}
"""Methods that leave every number where it is, those that may give their own tensor among them."""
_MOST_NODES = 12
"""Calls that one activation is made of."""


class InFront(NamedTuple):
    """The activations that a layer sees past pooling, joining, moving, products and each other."""

    kept: tuple[str, ...]
    """Module paths, and graph node names with `()` for functions."""
    unkept: tuple[fx.Node, ...]
    """The last call of those that nothing can stand for: what they read is overwritten."""


def activations_in_front(flow: Flow, node: fx.Node) -> InFront:
    """Those in front of `node`, a layer."""
    activations: dict[str, None] = {}
    unkept: list[fx.Node] = []
    order = {n: i for i, n in enumerate(node.graph.nodes)}

    def as_read(source: fx.Node, reader: fx.Node) -> fx.Node:
        """What has overwritten `source` when `reader` reads it; itself if nothing has."""
        writers = [
            u
            for u in source.users
            if order[u] < order[reader]
            and works_in_place(u, flow.modules)
            and u.all_input_nodes[0] is source
        ]
        return max(writers, key=order.__getitem__, default=source)

    def read_by(inputs: list[fx.Node], reader: fx.Node) -> list[fx.Node]:
        for i in inputs:
            unkept.extend(_sums_through_views(i, order, order[reader], flow.modules))
        return [as_read(i, reader) for i in inputs]

    todo = read_by(node.all_input_nodes[:1], node)
    seen = set(todo)
    while todo:
        at = todo.pop()
        passes = moves_values(at, flow.modules) or function_name(at) in _SCALING
        name, source = _activation(flow, at, passes=passes)
        inputs = at.all_input_nodes
        if name:
            activations[name] = None
            inputs = [source]
        elif _loses_overwritten(at, flow.modules):
            unkept.append(at)
        elif function_name(at) == "copy":
            inputs = inputs[1:]
        elif not passes:
            goes_on = is_elementwise_activation(at, flow.modules)
            if not goes_on and _loses_in_place(at, flow.modules):
                unkept.append(at)
            inputs = inputs[:1] if goes_on else []
        new = [n for n in read_by(inputs, at) if n not in seen]
        seen.update(new)
        todo += new
    return InFront(tuple(activations), tuple(unkept))


def _activation(flow: Flow, node: fx.Node, *, passes: bool) -> tuple[str, fx.Node]:
    """Its name, '' if it is none, and what it reads."""
    if node.op == "call_module":
        module = flow.module(node)
        carried = module._modules.get("act") if is_norm(module) else None
        if carried is not None and loses_sign(carried):  # in timm's norms, behind the norm itself
            return f"{node.target}.act", node
        is_one = not passes and loses_sign(module)
        return (str(node.target), node.all_input_nodes[0]) if is_one else ("", node)
    if passes and (moves_values(node, flow.modules) or len(node.all_input_nodes) != 2):
        return "", node
    kept = kept_at(node, flow.modules, nearest=passes)
    return ("", node) if kept is None else (f"{node.name}()", kept.source)


class Kept(NamedTuple):
    """An activation that a graph calls as a function, or as several."""

    activation: nn.Module
    source: fx.Node
    """What it reads."""
    nodes: tuple[fx.Node, ...]
    """It stands for these; the first one gives its result."""


def kept_at(node: fx.Node, modules: dict[str, nn.Module], *, nearest: bool = False) -> Kept | None:
    """The activation that ends in `node` and loses the sign of its input; None if none does.

    What it is made of lies between `node` and a single tensor that all of it comes from: the
    nearest one for which the whole loses its sign.

    Args:
        node: calls a function or a method.
        modules: that the graph calls, by path.
        nearest: only the nearest such tensor is tried.
    """
    kept = _made_at(node, modules, nearest=nearest)
    return None if kept is None or _writers(kept, modules) is not None else kept


def _loses_overwritten(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether `node` ends an activation as `kept_at` finds it, but for what is overwritten.

    With what overwrites run in its place.
    """
    made = _made_at(node, modules, may_keep=True)
    writers = None if made is None else _writers(made, modules)
    if made is None or writers is None:
        return False
    nodes = [*made.nodes, *writers]
    known = {made.source, *nodes}
    if any(i not in known for n in nodes for i in n.all_input_nodes):  # written through a view
        return loses_sign(made.activation) or any(map(_sums, made.nodes))
    return loses_sign(composed(nodes, made.source, modules))


def _loses_in_place(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether `node` ends an activation some other part of which works in place."""
    made = _made_at(node, modules, may_write=True)
    return made is not None and any(works_in_place(n, modules) for n in made.nodes[1:])


def _sums(node: fx.Node) -> bool:
    """Whether a node adds or subtracts two tensors, which rounding can be all that is left of."""
    return function_name(node) in _SUMS and len(node.all_input_nodes) > 1


def _sums_through_views(
    source: fx.Node, order: dict[fx.Node, int], until: int, modules: dict[str, nn.Module]
) -> list[fx.Node]:
    """What adds to `source`, through a view of it and before `until`, what is computed from it."""
    views, sums = [source], list[fx.Node]()
    for view in views:
        views += [u for u in view.users if function_name(u) in _VIEWS and u not in views]
    for user in (u for view in views[1:] for u in view.users):
        is_sum = _sums(user) and works_in_place(user, modules) and order[user] < until
        if is_sum and user.all_input_nodes[0] in views:
            own = _without_layers([source], modules)
            if own & _without_layers(user.all_input_nodes[1:], modules):
                sums.append(user)
    return sums


def _without_layers(nodes: list[fx.Node], modules: dict[str, nn.Module]) -> set[fx.Node]:
    """`nodes` and what they come from, but for what lies behind parameters."""
    seen, todo = set(nodes), list(nodes)
    while todo and len(seen) <= 2 * _MOST_NODES:
        at = todo.pop()
        if at.op == "call_module" and any(True for _ in modules[str(at.target)].parameters()):
            continue
        new = [i for i in at.all_input_nodes if i not in seen]
        seen.update(new)
        todo += new
    return seen


def _made_at(
    node: fx.Node,
    modules: dict[str, nn.Module],
    *,
    nearest: bool = False,
    may_keep: bool = False,
    may_write: bool = False,
) -> Kept | None:
    """As `kept_at`, as if nothing were overwritten; `may_keep`: also what keeps its sign then.

    With `may_write` any part of it may work in place.
    """
    if node.op not in ("call_function", "call_method"):
        return None
    order = {n: i for i, n in enumerate(node.graph.nodes)}
    nodes, inputs = [node], list(node.all_input_nodes)
    while inputs:
        if len(inputs) == 1 and shape(inputs[0]) == shape(node):
            made = as_module(node) if len(nodes) == 1 else composed(nodes, inputs[0], modules)
            kept = None if made is None else Kept(made, inputs[0], tuple(nodes))
            is_it = may_keep and kept is not None and bool(_writers(kept, modules))
            if kept is not None and (is_it or loses_sign(kept.activation)):
                return kept
            if nearest:
                return None
        latest = max(inputs, key=order.__getitem__)
        if len(nodes) == _MOST_NODES or not all(
            _is_part(n, modules, may_write=may_write or n is node) and shape(n) == shape(node)
            for n in (node, latest)
        ):
            return None
        nodes.append(latest)
        inputs = list(dict.fromkeys(i for n in nodes for i in n.all_input_nodes if i not in nodes))
    return None


def called_at(node: fx.Node) -> str:
    """What a node calls and where in the network's code, in words."""
    name = function_name(node).strip("_") or str(node.target)
    line = node.meta.get("line", "")
    return f"`{name}`" + f" ({line})" * bool(line)


def call_instead(node: fx.Node, name: str, kept: Kept | None = None) -> None:
    """Lets `node` call the module `name` with what it, or the activation, reads; in place."""
    source = node.all_input_nodes[0] if kept is None else kept.source
    node.op, node.target = "call_module", name
    node.args, node.kwargs = (source,), {}
    numbers = [n for part in kept.nodes for n in part.meta.get("numbers", ())] if kept else []
    node.meta["numbers"] = tuple(number._replace(place=None) for number in numbers)
    for part in () if kept is None else kept.nodes[1:]:
        if not part.users:
            node.graph.erase_node(part)


def _writers(kept: Kept, modules: dict[str, nn.Module]) -> list[fx.Node] | None:
    """What writes into what the parts read before the last of them runs; None if nothing does.

    All of them are to run where the last one does.
    """
    order = {n: i for i, n in enumerate(kept.source.graph.nodes)}
    last, *parts = kept.nodes
    first = min(map(order.__getitem__, kept.nodes))
    read = {_base(n, modules) for n in (kept.source, *parts)}
    writers = [
        node
        for node, place in order.items()
        if first < place < order[last]
        and node.all_input_nodes
        and works_in_place(node, modules)
        and _base(node.all_input_nodes[0], modules) in read
    ]
    if parts and works_in_place(last, modules):
        written = last.all_input_nodes[0]
        is_own = function_name(written) not in _MAY_ALIAS and set(written.users) <= {*kept.nodes}
        if written is not kept.source and not is_own:
            return writers
    return writers or None


def _base(node: fx.Node, modules: dict[str, nn.Module]) -> fx.Node:
    """What a node may be a view of, or what it has overwritten and handed on."""
    while node.all_input_nodes and (moves_values(node, modules) or works_in_place(node, modules)):
        node = node.all_input_nodes[0]
    return node


def _is_part(node: fx.Node, modules: dict[str, nn.Module], *, may_write: bool = False) -> bool:
    """Whether a node may be one of several that make an activation."""
    if node.op == "call_module":
        module = modules[str(node.target)]
        if isinstance(module, SignKept) or any(True for _ in module.parameters()):
            return False
    elif node.op not in ("call_function", "call_method"):
        return False
    if function_name(node) in _SAME_PLACE:
        return True
    return not moves_values(node, modules) and (may_write or not works_in_place(node, modules))
