"""A graph of `torch.export`'s in a program's operators, where torch need not decompose it.

torch decomposes whole graphs, by computing them again twice; that takes longer than the export. It
leaves the operators that a program may name as they are. The few others that most networks have,
functions in place and changes of shape and type, are rewritten here, one by one, to what torch
makes of them, node by node; where any other is met, or in place is not plain, the graph is left to
torch.
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
    if len({one.meta["val"].dtype for one in node.all_input_nodes if _is_tensor(one)}) > 1:
        return None  # in place keeps the type, out of place takes the wider one
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


def _is_tensor(node: fx.Node) -> bool:
    return isinstance(node.meta["val"], Tensor)


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
        first = _batch_size(graph, size[0]) or _size(graph, x, node.prev)
        node.target, node.args, node.kwargs = (
            torch.ops.aten.view.default,
            (x, [first, *size[1:]]),
            {},
        )

    return edit


def _batch_size(graph: fx.Graph, symbol: object) -> fx.Node | None:
    """The number of images, asked of the images first of all; None if it is not that symbol."""
    images: fx.Node = [node for node in graph.nodes if node.op == "placeholder"][-1]
    if not _is_tensor(images) or str(images.meta["val"].shape[0]) != str(symbol):
        return None
    after = images.next
    if after.target is torch.ops.aten.sym_size.int and after.args == (images, 0):
        return after
    return _size(graph, images, images)


def _size(graph: fx.Graph, x: fx.Node, after: fx.Node) -> fx.Node:
    """How many `x` holds along its first axis, asked behind a node."""
    with graph.inserting_after(after):
        size = graph.call_function(torch.ops.aten.sym_size.int, (x, 0))
    size.meta.update({**x.meta, "val": x.meta["val"].shape[0]})
    return size


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
