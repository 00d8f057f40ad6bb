"""Layer facts and the user's rules become a plan: every layer binary or float, and why.

Pure and torch-free, so that a plan can be made, printed and tested without a network.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from fnmatch import fnmatchcase

from irbin import bits
from irbin.errors import PlanError
from irbin.messages import N_NAMED, names_of, nearest_names
from irbin.records.kinds import ACTIVATIONS, BALANCES
from irbin.records.plan import Decision, LayerGraph, LayerRecord, Plan, PlanOptions

NEVER_RUNS = "never runs in evaluation mode"
"""The obstacle of a layer that no image reaches; it leaves nothing in the packed folder."""

_REGEX = "re:"


def make_plan(graph: LayerGraph, options: PlanOptions) -> Plan:
    """Decides every layer.

    A layer stays float for an obstacle, else by a `keep` rule; it becomes binary by a `binarize`
    rule; else the policy keeps first and last layers, 1×1 shortcuts, depthwise convolutions,
    squeeze-excite gates and layers whose input has one sign only, and binarizes the rest.

    Args:
        graph: from `trace`.
        options: the user's rules and choices.

    Raises:
        PlanError: a rule matches no layer or asks for what cannot be done, options contradict each
            other, nothing is left to binarize, or `activation="keep"` would leave a sign behind a
            ReLU.
    """
    _check_options(options)
    names = [layer.name for layer in graph.layers]
    for option, rules in (("keep", options.keep), ("binarize", options.binarize)):
        for rule in rules:
            if not any(matches(rule, name) for name in names):
                raise PlanError(_unmatched(option, rule, names))
    decisions = _tied(tuple(_decide(layer, options) for layer in graph.layers), options)
    if not any(d.binary for d in decisions):
        raise PlanError(_nothing_binary(decisions))
    _check_activations(decisions, options)
    plan = Plan(
        options,
        decisions,
        graph.input_size,
        graph.n_other_params,
        graph.other_bytes,
        graph.n_other_floats,
        graph.activation_channels,
        graph.other_macs,
        graph.n_fusable,
        keeps_called_signs=True,
    )
    return _with_learned_vectors(plan)


def _check_options(options: PlanOptions) -> None:
    if options.bits == "1w32a" and options.sign_threshold == "learned":
        raise PlanError(
            "`sign_threshold='learned'`: expected binary activations, but at `1w32a` no sign of "
            "an activation is taken; use `bits='1w1a'`, or leave the option out"
        )
    if options.binarizer == "plain" and not BALANCES[options.balance].is_default:
        raise PlanError(
            "`balance='median'`: expected Libra-PB, but `binarizer='plain'` balances nothing; use "
            "`binarizer='libra'`, or leave the option out"
        )


def matches(rule: str, name: str) -> bool:
    """Whether a rule means the layer `name`.

    A glob means a layer when it matches its dotted name or the name of a module around it (`layer4`
    means `layer4.0.conv1`); after `re:` stands a regular expression that matches the whole name.

    Raises:
        PlanError: the regular expression does not parse.
    """
    if rule.startswith(_REGEX):
        try:
            return re.fullmatch(rule.removeprefix(_REGEX), name) is not None
        except re.error as error:
            raise PlanError(
                f"rule `{rule}`: expected a regular expression after `re:`: {error}"
            ) from error
    parts = name.split(".")
    return any(fnmatchcase(".".join(parts[:n]), rule) for n in range(1, len(parts) + 1))


def _unmatched(option: str, rule: str, names: list[str]) -> str:
    wanted = rule.removeprefix(_REGEX)
    modules = {".".join(n.split(".")[:i]) for n in names for i in range(1, n.count(".") + 2)}
    near = nearest_names(wanted, sorted(modules), cutoff=0.4) or names[:N_NAMED]
    return f"`{option}` rule `{rule}` matches no layer; the nearest names are {names_of(near)}"


def _decide(layer: LayerRecord, options: PlanOptions) -> Decision:
    wanted = next((r for r in options.binarize if matches(r, layer.name)), None)
    kept = next((r for r in options.keep if matches(r, layer.name)), None)
    if layer.obstacle:
        if wanted is not None and kept is None:
            raise PlanError(
                f"`binarize` rule `{wanted}`: `{layer.name}` cannot be binarized: "
                f"{layer.obstacle}; narrow the rule, or add a `keep` rule for this layer"
            )
        return _float(layer, layer.obstacle)
    if kept is not None:
        return _float(layer, f"kept by rule '{kept}'")
    if wanted is not None:
        if layer.never_negative and options.bits == "1w1a":
            raise PlanError(
                f"`binarize` rule `{wanted}`: the input of `{layer.name}` is never negative "
                f"({_why_never_negative(layer)}), so its sign would always "
                "be +1; use `bits='1w32a'` or drop the rule"
            )
        if layer.always_negative and options.bits == "1w1a":
            raise PlanError(
                f"`binarize` rule `{wanted}`: the input of `{layer.name}` is always negative "
                f"({layer.always_negative}), so its sign would always be −1; use `bits='1w32a'` or "
                "drop the rule"
            )
        return _binary(layer, f"binarized by rule '{wanted}'", options)
    reason = _policy(layer, options)
    return _float(layer, reason) if reason else _binary(layer, _how(layer, options), options)


def _tied(decisions: tuple[Decision, ...], options: PlanOptions) -> tuple[Decision, ...]:
    """The decisions with every layer float whose weight is also that of a float layer.

    Raises:
        PlanError: a `binarize` rule means such a layer.
    """
    decided = {d.layer.name: d for d in decisions}

    def settled(decision: Decision) -> Decision:
        layer = decision.layer
        partners = [decided[name] for name in layer.tied_to if name in decided]
        partner = next((p for p in partners if not p.binary), None)
        if not decision.binary or partner is None:
            return decision
        reason = f"its weight is also that of `{partner.layer.name}`, which stays float"
        wanted = next((r for r in options.binarize if matches(r, layer.name)), None)
        if wanted is not None:
            raise PlanError(
                f"`binarize` rule `{wanted}`: `{layer.name}` cannot be binarized alone: {reason} "
                f"({partner.reason}); binarize both, or drop the rule"
            )
        return _float(layer, f"{reason} ({partner.reason})")

    return tuple(map(settled, decisions))


def _how(layer: LayerRecord, options: PlanOptions) -> str:
    """What is special about a layer that the policy binarizes; `binary` if nothing is."""
    specials = {
        "no norm behind it: keeps its size": layer.keeps_size and options.binarizer == "libra",
        "standardized already: keeps its gain": layer.has_gain,
        "seen in a run only": bool(layer.unseen),
    }
    return "; ".join(words for words, holds in specials.items() if holds) or "binary"


def _policy(layer: LayerRecord, options: PlanOptions) -> str:
    """Why a layer stays float without any rule; '' if it does not."""
    reasons = {
        "first layer": layer.is_first,
        "last layer": layer.is_last,
        "1×1 shortcut": layer.is_shortcut,
        "depthwise": layer.is_depthwise,
        "squeeze-excite gate": layer.is_gate,
        f"input never negative ({_why_never_negative(layer)})": bool(layer.never_negative)
        and options.bits == "1w1a",
        f"input always negative ({layer.always_negative})": bool(layer.always_negative)
        and options.bits == "1w1a",
        f"its input's sign is rounding behind {layer.rounded_sign}": bool(layer.rounded_sign)
        and options.bits == "1w1a",
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _why_never_negative(layer: LayerRecord) -> str:
    """What makes the input of a layer non-negative, and why nothing is put in its place."""
    untold = "; tracing failed here, so no ReLU before it can be replaced"
    return layer.never_negative + untold * bool(layer.unseen)


def _float(layer: LayerRecord, reason: str) -> Decision:
    decision = Decision(layer, False, reason, 0)
    n_bytes = 0 if layer.obstacle == NEVER_RUNS else decision.float_bytes
    return Decision(layer, False, reason, n_bytes)


def _binary(layer: LayerRecord, reason: str, options: PlanOptions) -> Decision:
    return Decision(layer, True, reason, binary_bytes(layer, options))


def binary_bytes(layer: LayerRecord, options: PlanOptions) -> int:
    """Bytes of a binary layer in the packed folder, float32 rest: bits, scale, bias.

    Bits are packed along the input channels, so each kernel position of each filter takes whole
    bytes; the scale is one int8 exponent per filter, or one float32 for the plain binarizer and for
    a layer with a learned gain.
    """
    out_channels, in_channels, *kernel = layer.weight_shape
    n_positions = out_channels
    for size in kernel:
        n_positions *= size
    scale = 4 if options.binarizer == "plain" or layer.has_gain else 1
    return n_positions * bits.packed_bytes(in_channels) + out_channels * (
        scale + 4 * layer.has_bias
    )


def _nothing_binary(decisions: tuple[Decision, ...]) -> str:
    counts = Counter(d.reason for d in decisions)
    reasons = "; ".join(f"{n} × {reason}" for reason, n in counts.most_common(4))
    more = len(counts) - 4
    tail = f"; and {more} further reasons" if more > 0 else ""
    start = f"expected at least one layer to binarize, but all {len(decisions)} stay float: "
    if set(counts) == {NEVER_RUNS}:
        return (
            f"{start}no layer of a copy of the network runs when the copy is called; its forward "
            "reaches the layers past `self` (a closure, a weak reference, a `forward` of another "
            "network); let it read them from `self`"
        )
    untraced = [d.layer.unseen for d in decisions if d.layer.unseen and d.layer.never_negative]
    if untraced:
        return (
            f"{start}{reasons}{tail}; tracing failed: {untraced[0]}; change that line, or take "
            "`bits='1w32a'`, where no ReLU needs to be replaced"
        )
    return f"{start}{reasons}{tail}; change the rules or name layers with `binarize=`"


def _check_activations(decisions: tuple[Decision, ...], options: PlanOptions) -> None:
    if options.bits == "1w32a" or ACTIVATIONS[options.activation].gives_both_signs:
        return
    fed = [d.layer for d in decisions if d.binary and d.layer.activations]
    if fed:
        first = fed[0]
        others = [f"`{name}`" for name, kind in ACTIVATIONS.items() if kind.gives_both_signs]
        raise PlanError(
            f"`activation` `{options.activation}` leaves `{first.name}` behind the ReLU "
            f"`{first.activations[0]}`, whose sign is always +1 ({len(fed)} such layers); use "
            f"{', '.join(others[:-1])} or {others[-1]}, or keep them float with `keep=`"
        )


def _with_learned_vectors(plan: Plan) -> Plan:
    """Adds the activations' and the thresholds' learned numbers to the bytes beside the layers."""
    per_channel = ACTIVATIONS[plan.options.activation].n_learned
    learning = plan.replaced_activations if per_channel else ()
    n = per_channel * sum(plan.activation_channels[name] for name in learning)
    if plan.options.sign_threshold == "learned":
        layers = [d.layer for d in plan.decisions if d.binary]
        n += sum(layer.groups * layer.weight_shape[1] for layer in layers)
    return replace(
        plan, other_bytes=plan.other_bytes + 4 * n, n_other_floats=plan.n_other_floats + n
    )
