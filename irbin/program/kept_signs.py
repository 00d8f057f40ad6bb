"""A sign behind an activation that keeps signs is taken in front of it: exact, and cheaper.

What nobody but signs reads of such an activation is then not computed at all.
"""

from __future__ import annotations

import torch
from torch import fx

from irbin.bits import LEAST

_MOVES = {
    f"aten.{name}"
    for name in (
        "view.default",
        "_unsafe_view.default",
        "reshape.default",
        "permute.default",
        "transpose.int",
        "clone.default",
        "alias.default",
        "detach.default",
        "contiguous.default",
        "dropout.default",
        "flatten.using_ints",
        "unsqueeze.default",
        "squeeze.dim",
        "slice.Tensor",
        "select.int",
    )
}
"""Operators whose results are numbers of their first argument."""


def take_signs_of_inputs(graph: fx.Graph) -> None:
    """Lets every `bitpack` behind a `SignKept` read what that reads, past what moves; in place."""
    for node in list(graph.nodes):
        if str(node.target) == "aten.copy.default" and _input_of_kept(node.args[1]):
            node.replace_all_uses_with(node.args[1])  # of an activation that works in place
        if node.op != "call_function" or node.target is not torch.ops.irbin.bitpack.default:
            continue
        moves: list[fx.Node] = []
        at = node.args[0]
        while isinstance(at, fx.Node) and str(at.target) in _MOVES:
            moves.append(at)
            at = at.args[0]
        kept = _input_of_kept(at)
        if kept is None:
            continue
        source, falls = kept
        with graph.inserting_before(node):
            for move in reversed(moves):
                known: dict[fx.Node, fx.Node] = {at: source}
                source = graph.node_copy(move, lambda n, k=known: k.get(n, n))  # type: ignore[misc]
                at = move
            if falls:
                negated = graph.call_function(torch.ops.aten.neg.default, (source,))
                negated.meta = dict(source.meta)
                source = negated
        node.update_arg(0, source)


def _input_of_kept(node: object) -> tuple[fx.Node, bool] | None:
    """x of min(y, −LEAST) where x < 0 and max(y, 0) elsewhere, as `SignKept` exports it.

    And whether −x takes its place. None for anything else.
    """
    if not isinstance(node, fx.Node) or str(node.target) != "aten.where.self":
        return None
    below, least, most = node.args
    if not isinstance(below, fx.Node) or not _clamps(least, max=-LEAST) or not _clamps(most, min=0):
        return None
    falls = _SIDES.get(str(below.target))
    if falls is None or below.args[1] != 0:
        return None
    x = below.args[0]
    while isinstance(x, fx.Node) and str(x.target) in {"aten.detach.default", "aten.alias.default"}:
        x = x.args[0]
    return (x, falls) if isinstance(x, fx.Node) else None


_SIDES = {"aten.lt.Scalar": False, "aten.gt.Scalar": True}


def _clamps(node: object, **bound: float) -> bool:
    if not isinstance(node, fx.Node) or str(node.target) != "aten.clamp.default":
        return False
    given = dict(zip(("min", "max"), node.args[1:], strict=False)) | node.kwargs
    return {name: value for name, value in given.items() if value is not None} == bound
