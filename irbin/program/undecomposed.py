"""A graph of `torch.export`'s in a program's operators, where torch need not decompose it.

torch decomposes whole graphs, by computing them again twice; that takes as long as the export. It
leaves the operators that a program may name as they are. The few others that most networks have,
functions in place and changes of shape and type, are rewritten here, one by one; where any other
is met, or in place is not plain, the graph is left to torch.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, fx

from irbin.program.translate import BATCH_NORMS, FUNCTIONS, IDENTITIES, RENAMED
from irbin.program.vocabulary import signatures

_MAKING = frozenset(
    {
        "aten.batch_norm.default",
        "aten.conv1d.default",
        "aten.conv2d.default",
        "aten.conv2d.padding",
        "aten.group_norm.default",
        "aten.layer_norm.default",
        "aten.linear.default",
        "aten.max_pool2d.default",
        "aten.adaptive_avg_pool2d.default",
    }
)
"""Operators that torch makes of others, whose result is always memory of its own."""

_TRAINING = 5
"""Place of a batch norm's flag."""

_Edit = Callable[[], None]


def in_program_operators(graph: fx.Graph) -> bool:
    """Rewrites a graph so that it needs no decomposition, in place; or leaves it, all of it.

    Args:
        graph: of an exported program, as `torch.export` makes it before anything is decomposed.

    Returns:
        Whether it did.
    """
    edits: list[_Edit] = []
    for node in graph.nodes:
        if node.op in ("placeholder", "output"):
            continue
        edit = _edit(graph, node)
        if edit is None:
            return False
        edits.append(edit)
    for edit in edits:
        edit()
    return True


def _edit(graph: fx.Graph, node: fx.Node) -> _Edit | None:
    """What makes a node one of a program's; None where it cannot be."""
    name = str(node.target)
    if _is_mutable(node):
        return _out_of_place(graph, node)
    if not node.users:  # assertions
        return _nothing
    if name == "aten.batch_norm.default":
        return _nothing if node.args[_TRAINING] is False else None
    if node.target in FUNCTIONS or name in IDENTITIES | BATCH_NORMS:
        return _nothing
    if RENAMED.get(name, name) in signatures():
        return _nothing
    rule = {"aten.flatten.using_ints": _flatten, "aten.to.dtype": _to_dtype}.get(name)
    return None if rule is None else rule(graph, node)


def _nothing() -> None:
    """A node that may stay."""


def _is_mutable(node: fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and bool(schema.is_mutable)


def _out_of_place(graph: fx.Graph, node: fx.Node) -> _Edit | None:
    """`add_` becomes `add`: where what it writes over is nobody else's memory."""
    space, _, overload = str(node.target).partition(".")[2].partition(".")
    written = node.args[0] if node.args else None
    if not isinstance(written, fx.Node) or not space.endswith("_") or space.endswith("__"):
        return None
    name = f"aten.{space.removesuffix('_')}.{overload}"
    if name not in signatures() or not str(node.target).startswith("aten."):
        return None
    order = {n: i for i, n in enumerate(graph.nodes)}
    same = [written]  # memory, written over before
    while _is_mutable(same[-1]) and isinstance(source := same[-1].args[0], fx.Node):
        same.append(source)
    users = {user for one in same for user in one.users if order[user] < order[node]}
    if not all(map(_makes, {same[-1], *users} - set(same[:-1]))):
        return None

    def edit() -> None:
        node.target = getattr(getattr(torch.ops.aten, space.removesuffix("_")), overload)
        later = {user for user in written.users if order.get(user, len(order)) > order[node]}
        written.replace_all_uses_with(node, delete_user_cb=lambda user: user in later)

    return edit


def _makes(node: fx.Node) -> bool:
    """Whether a node's result is memory of its own, not its input's."""
    name = str(node.target)
    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
        return False
    if name in _MAKING:
        return True
    returns = node.target._schema.returns
    called: str = node.target.name()  # type: ignore[no-untyped-call]
    composed = torch._C._dispatch_has_kernel_for_dispatch_key(called, "CompositeImplicitAutograd")
    return not composed and all(r.alias_info is None for r in returns)


def _flatten(graph: fx.Graph, node: fx.Node) -> _Edit | None:
    """All axes but the first ones, which are left as they are."""
    x, size = node.args[0], node.meta["val"].shape
    if not isinstance(x, fx.Node) or not all(isinstance(s, int) for s in size[1:]):
        return None
    known: Tensor = x.meta["val"]
    if str(size[0]) != str(known.shape[0]):
        return None

    def edit() -> None:
        with graph.inserting_before(node):
            first = graph.call_function(torch.ops.aten.sym_size.int, (x, 0))
        first.meta.update({**node.meta, "val": known.shape[0]})
        node.target, node.args, node.kwargs = (
            torch.ops.aten.view.default,
            (x, [first, *size[1:]]),
            {},
        )

    return edit


def _to_dtype(graph: fx.Graph, node: fx.Node) -> _Edit | None:  # noqa: ARG001 - a rule's
    """A copy in another type; nothing where it is the same."""
    x = node.args[0]
    if not isinstance(x, fx.Node):
        return None
    made = node.meta["val"].dtype

    def edit() -> None:
        if x.meta["val"].dtype == made:
            node.target, node.args, node.kwargs = torch.ops.aten.alias.default, (x,), {}
        else:
            node.target = torch.ops.aten._to_copy.default
            node.args, node.kwargs = (x,), {"dtype": made}

    return edit
