"""The graph of a rewritten network for calls that give its forward more than the images.

The graph that a conversion edits is that of `network(images)`. What a forward does with further
arguments (`forward(self, x, mask=None)`) is traced when they are first given: tensors become
inputs of the graph, all else is part of it. The functions that the conversion replaced are found
again by the module that calls them and their order in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from torch import Tensor, fx, nn
from torch.utils._pytree import TreeSpec, tree_flatten

from irbin.binary.activations import SignKept
from irbin.binary.layers import BinaryLayer
from irbin.errors import TraceError
from irbin.tracing.keeping_sign import call_instead, kept_at
from irbin.tracing.numbers import read_when_run
from irbin.tracing.signs import function_name, signs
from irbin.tracing.tracer import trace_symbolically

Place = tuple[str, str, int]
"""A function, the module whose forward calls it, and which of its calls there, from 0."""

_PLAIN = (type(None), bool, int, float, str)


class Edits(NamedTuple):
    """What a conversion changed in a graph, as far as it can be done again in another."""

    functions: dict[Place, str]
    """Module at the root that stands in for a function's call."""
    n_calls: dict[tuple[str, str], int]
    """Calls of such functions, replaced or not, by function and module."""
    training: bool | None
    """The mode in which the graph was traced; None for that which each module has."""
    why_not: str
    """What was changed that cannot be done again; '' if nothing was."""
    whole: bool = True
    """See `trace_symbolically`."""
    by_mode: bool = False
    """Whether evaluation has a graph of its own: the forward branches on `self.training`."""


class Further(NamedTuple):
    """What a call gives beside the images."""

    leaves: list[Any]
    """Tensors and plain values, in order."""
    spec: TreeSpec
    """How they make up (positional, by name)."""
    names: str
    """Of the arguments, in backticks."""

    @property
    def tensors(self) -> list[Tensor]:
        """Inputs of the graph."""
        return [leaf for leaf in self.leaves if isinstance(leaf, Tensor)]

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal where one graph serves."""
        kinds = [(Tensor,) if isinstance(v, Tensor) else (type(v), v) for v in self.leaves]
        return (str(self.spec), *kinds)


def further(args: tuple[Any, ...], kwargs: dict[str, Any], names: Iterable[str]) -> Further:
    """What is given, flat.

    Raises:
        TraceError: something is neither a tensor nor a plain value.
    """
    leaves, spec = tree_flatten((args, kwargs))
    words = ", ".join(f"`{name}`" for name in names)
    for leaf in leaves:
        if not isinstance(leaf, (Tensor, *_PLAIN)):
            raise TraceError(
                f"{words}: expected tensors, numbers, text, or lists and dictionaries of them, "
                f"got a `{type(leaf).__name__}`, which a converted network's forward cannot take"
            )
    return Further(leaves, spec, words)


def places(nodes: Iterable[fx.Node]) -> dict[fx.Node, Place]:
    """Where each function's call is made."""
    seen: Counter[tuple[str, str]] = Counter()
    placed: dict[fx.Node, Place] = {}
    for node in nodes:
        name = function_name(node)
        if name:
            stack = list((node.meta.get("nn_module_stack") or {}).values())
            where = (name, str(stack[-1][0]) if stack else "")
            placed[node] = (*where, seen[where])
            seen[where] += 1
    return placed


def counted(calls: Iterable[Place]) -> dict[tuple[str, str], int]:
    """Calls by function and module."""
    return dict(Counter((name, path) for name, path, _ in calls))


def graph_with(twin: nn.Module, given: Further, edits: Edits) -> fx.GraphModule:
    """The graph of a converted network's own forward with further arguments, edited.

    Args:
        twin: the converted network with its source's class.
        given: the first call's arguments; none for the graph of the other mode.
        edits: of the graph without them.

    Returns:
        A graph of (images, *given.tensors).

    Raises:
        TraceError: the arguments change the network so that it cannot be done; names them.
    """
    name, others = type(twin).__name__, "with them"
    what = f"`{name}`: {given.names} cannot be given to the converted network"
    if not given.names:
        others = "in evaluation" if edits.training is False else "with some parts in another mode"
        what = f"`{name}`: its branches on `self.training` cannot be kept in the converted network"
    if edits.why_not:
        raise TraceError(f"{what}, {edits.why_not}")
    try:
        traced, _ = trace_symbolically(
            twin,
            training=edits.training,
            given=(given.leaves, given.spec),
            whole=edits.whole,
        )
    except TraceError as error:
        raise TraceError(f"{what}: {error}") from error
    placed = places(traced.graph.nodes)
    counts = counted(placed.values())
    if any(counts.get(where, 0) != n for where, n in edits.n_calls.items()):
        raise TraceError(
            f"{what}: {others} its forward calls other activations, so those that the conversion "
            "replaced are not found again"
        )
    for node, place in placed.items():
        if place in edits.functions:
            name = edits.functions[place]
            stand_in = twin.get_submodule(name)
            is_kept = isinstance(stand_in, SignKept)
            kept = kept_at(node, dict(traced.named_modules())) if is_kept else None
            traced.add_submodule(name, stand_in)
            call_instead(node, name, kept)
    _check_signs(traced, f"{what}: {others}")
    read_when_run(traced.graph)
    return traced


def _check_signs(traced: fx.GraphModule, what: str) -> None:
    modules, known = dict(traced.named_modules()), signs(traced)
    for node in traced.graph.nodes:
        layer = modules.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(layer, BinaryLayer) or not layer.method.binary_activations:
            continue
        if any(sign.non_negative for sign in known[node].values()):
            raise TraceError(
                f"{what} the input of `{node.target}` is never negative, so its sign "
                "would always be +1"
            )
