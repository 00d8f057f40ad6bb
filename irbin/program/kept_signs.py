"""A sign behind an activation that keeps signs is taken in front of it: exact, and cheaper.

What nobody but signs reads of such an activation is then not computed at all.
"""

from __future__ import annotations

import torch
from torch import fx

from irbin.binary.activations import LEAST

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
        if node.op != "call_function" or node.target is not torch.ops.irbin.bitpack.default:
            continue
        moves: list[fx.Node] = []
        at = node.args[0]
        while isinstance(at, fx.Node) and str(at.target) in _MOVES:
            moves.append(at)
            at = at.args[0]
        source = _input_of_kept(at)
        if source is None:
            continue
        with graph.inserting_before(node):
            for move in reversed(moves):
                known: dict[fx.Node, fx.Node] = {at: source}
                source = graph.node_copy(move, lambda n, k=known: k.get(n, n))  # type: ignore[misc]
                at = move
        node.update_arg(0, source)


def _input_of_kept(node: object) -> fx.Node | None:
    """x of y − LEAST·[x < 0], as `SignKept` exports it; None for anything else."""
    if not isinstance(node, fx.Node) or str(node.target) != "aten.sub.Tensor":
        return None
    mask = node.args[1]
    if node.kwargs.get("alpha") != LEAST or not isinstance(mask, fx.Node):
        return None
    below = mask.args[0] if str(mask.target) == "aten._to_copy.default" else None
    if not isinstance(below, fx.Node) or str(below.target) != "aten.lt.Scalar":
        return None
    x = below.args[0]
    while isinstance(x, fx.Node) and str(x.target) in {"aten.detach.default", "aten.alias.default"}:
        x = x.args[0]
    return x if isinstance(x, fx.Node) and below.args[1] == 0 else None
