"""The graph that a conversion edits, where it changes more than modules; what it edits there."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable
from typing import Any

import torch
from torch import fx, nn

from irbin.errors import TraceError
from irbin.records.kinds import DOWNSAMPLES, SHORTCUTS, ShortcutKind
from irbin.records.plan import Decision, Plan, PlanOptions
from irbin.rewriting.checks import check_same_answers
from irbin.rewriting.further import Edits, counted, places
from irbin.tracing.trace import trace_graph
from irbin.tracing.tracer import trace_symbolically, traced_constants

_log = logging.getLogger("irbin")


def edits_of(traced: fx.GraphModule, plan: Plan) -> Edits:
    """What is about to be changed in the graph."""
    names = {n.removesuffix("()") for n in (*plan.replaced_activations, *plan.sign_keeping)}
    placed = places(traced.graph.nodes)
    functions = {p: f"activation_{n.name}" for n, p in placed.items() if n.name in names}
    changed = {(name, path) for name, path, _ in functions}
    n_calls = {where: n for where, n in counted(placed.values()).items() if where in changed}
    options = plan.options
    whys = {
        f"whose forward was rewritten for `{name}={value}`": kind.edits_graph
        for name, value, kind in _shortcut_kinds(options)
    }
    why_not = next((why for why, holds in whys.items() if holds), "")
    in_training = not traced.meta.get("in_evaluation")
    by_mode = "evaluation" in traced.meta
    return Edits(functions, n_calls, in_training, why_not, plan.keeps_called_signs, by_mode)


def graph_to_edit(module: nn.Module, plan: Plan, check: bool) -> tuple[fx.GraphModule | None, Plan]:
    """The graph to edit, where the plan changes more than modules, and the plan that holds.

    Where it is wanted for nothing but the signs that functions lose, and is not what the network
    computes, they stay as they are called, in the plan too, and a warning says so.

    Raises:
        TraceError: other changes need the graph, or an earlier check found it right, and it cannot
        be had.
    """
    is_edited = _needs_graph(plan)
    if not is_edited and not (plan.keeps_called_signs and _called(plan.sign_keeping)):
        return None, plan
    is_needed = is_edited or not check
    try:
        traced = trace_graph(module, plan.input_size, whole=plan.keeps_called_signs)
        _note_evaluation(module, traced, plan)
        if check:
            check_same_answers(module, traced, plan)
    except TraceError as error:
        if is_needed:
            raise
        why = str(error).partition(", so functional")[0]
    else:
        lost = _what_would_go(traced)
        if is_needed or not lost:
            return traced, plan
        why = f"the forward of `{type(module).__name__}` {lost}"
    _log.warning(
        "%s stay as they are called, so a sign behind them is +1 where they round to zero, and "
        "chance where they are a difference that is all rounding: %s",
        ", ".join(f"`{name}`" for name in _called(plan.sign_keeping)),
        why,
    )
    return None, _without_called_signs(plan)


def _note_evaluation(module: nn.Module, traced: fx.GraphModule, plan: Plan) -> None:
    """Puts the graph of evaluation into `meta["evaluation"]` where that of training is another.

    Not where random numbers decide what a trace sees: two traces differ by them too.
    """
    if traced.meta.get("in_evaluation") or traced.meta["has_drawn"]:
        return
    other, _ = trace_symbolically(module, training=False, whole=plan.keeps_called_signs)
    if not _compute_the_same(module, traced, other):
        traced.meta["evaluation"] = other
        traced.meta["autocast"] = traced.meta["autocast"] or other.meta["autocast"]


def _compute_the_same(module: nn.Module, one: fx.GraphModule, other: fx.GraphModule) -> bool:
    """Whether two traces of `module` are the same calls in the same order, with equal constants."""
    constants = [traced_constants(module, traced) for traced in (one, other)]
    if constants[0].keys() != constants[1].keys():
        return False
    if not all(torch.equal(constant, constants[1][k]) for k, constant in constants[0].items()):
        return False
    return _calls(one.graph) == _calls(other.graph)


def _calls(graph: fx.Graph) -> list[tuple[Any, ...]]:
    places = {node: i for i, node in enumerate(graph.nodes)}
    given = [
        fx.node.map_arg((node.args, node.kwargs), lambda n: f"value {places[n]}")
        for node in graph.nodes
    ]
    return [
        (node.op, node.target, repr(values))
        for node, values in zip(graph.nodes, given, strict=True)
    ]


def _what_would_go(traced: fx.GraphModule) -> str:
    """What a network's own forward does and its graph does not, in words; '' if nothing."""
    if traced.meta["autocast"]:
        return "has a `torch.autocast` of its own"
    if traced.meta["own_backward"]:
        return "has a `torch.autograd.Function` of its own"
    if traced.meta["no_grad"]:
        return "has a `torch.no_grad` of its own"
    return "returns more in training" if traced.meta.get("in_evaluation") else ""


def _needs_graph(plan: Plan) -> bool:
    """Whether the plan changes more than modules, beside signs that functions lose."""
    edits = any(kind.edits_graph for _, _, kind in _shortcut_kinds(plan.options))
    return edits or bool(_called(plan.replaced_activations))


def _shortcut_kinds(options: PlanOptions) -> tuple[tuple[str, str, ShortcutKind], ...]:
    """(option, its value, what that means) of what may become of shortcuts."""
    return (
        ("shortcut", options.shortcut, SHORTCUTS[options.shortcut]),
        ("downsample", options.downsample, DOWNSAMPLES[options.downsample]),
    )


def _called(activations: Iterable[str]) -> list[str]:
    return [name for name in activations if is_called(name)]


def _without_called_signs(plan: Plan) -> Plan:
    def without(decision: Decision) -> Decision:
        names = decision.layer.signs_of_inputs
        kept = tuple(name for name in names if not is_called(name))
        layer = dataclasses.replace(decision.layer, signs_of_inputs=kept)
        return dataclasses.replace(decision, layer=layer)

    return dataclasses.replace(plan, decisions=tuple(map(without, plan.decisions)))


def is_called(activation: str) -> bool:
    """Whether a plan names a call of a function, not a module."""
    return activation.endswith("()")


ALL_INSIDE = "(*)"


def is_all_inside(activation: str) -> bool:
    """Whether a plan names all functions that are called while a module runs."""
    return activation.endswith(ALL_INSIDE)
