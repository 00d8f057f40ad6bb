"""A plan as two tables: every layer with its fate and the reason, and what it comes to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from rich.table import Table
from rich.text import Text

from irbin.messages import counted
from irbin.records.kinds import BALANCES
from irbin.records.options import FloatDtype
from irbin.records.plan import Decision, Plan
from irbin.report.fitting import Cell, fitting_table, plain_table
from irbin.report.units import byte_size, count, ratio, shape

BINARY_STYLE = "green"
FLOAT_STYLE = "yellow"
NARROW = 100
"""Columns below which the layer table drops what its other cells say too."""


def plan_heading(source: str, plan: Plan) -> str:
    """One line: what was planned, and how."""
    options = plan.options
    balance = "" if BALANCES[options.balance].is_default else f" ({options.balance})"
    parts = [f"{source}: {options.bits}", f"{options.binarizer}{balance}/{options.estimator}"]
    if options.weight_estimator not in ("same", options.estimator):
        parts.append(f"weights {options.weight_estimator}")
    if options.shortcut != "none":
        parts.append(f"{options.shortcut} shortcuts")
    if options.downsample != "keep":
        parts.append("average-pool shortcuts")
    if options.sign_threshold != "zero":
        parts.append("learned thresholds")
    parts.append(f"input {shape(plan.input_size)}")
    return ", ".join(parts)


def layer_table(plan: Plan, width: int) -> Table:
    """One row a layer in execution order: name, kind, shape, MACs, bytes, decision, reason.

    Below `NARROW` columns the kind goes (the shape tells it) and the reason follows the decision.
    Names stay whole: where there is no room for a column, it is left out; the JSON has it.
    """
    narrow = width < NARROW
    facts = ("shape", "MACs", "float", "packed")
    heads = (
        ("layer", *facts, "decision") if narrow else ("layer", "kind", *facts, "decision", "reason")
    )
    return fitting_table(
        heads,
        [_layer_row(decision, narrow) for decision in plan.decisions],
        width,
        left_out=[head for head in ("kind", "MACs", "float", "packed", "shape") if head in heads],
        numbers=facts[1:],
        wrapped=heads[-1:],
    )


def _layer_row(decision: Decision, narrow: bool) -> list[Cell]:
    layer = decision.layer
    kind = layer.type_name if layer.kind == "other" else layer.kind
    if layer.is_depthwise:
        kind = "depthwise"
    word, style = ("binary", BINARY_STYLE) if decision.binary else ("float", FLOAT_STYLE)
    reason = "" if decision.reason == word else decision.reason
    facts = [
        shape(layer.weight_shape),
        count(layer.n_macs),
        byte_size(decision.float_bytes),
        byte_size(decision.packed_bytes),
    ]
    fate = Text(word, style=style)
    if narrow:
        fate.append(f": {reason}" if reason else "", style="default")
        return [layer.name, *facts, fate]
    return [layer.name, kind, *facts, fate, reason]


def totals_table(plan: Plan, float_dtype: FloatDtype = "float32") -> Table:
    """Layers, MACs and bytes by precision; the last line is the network."""
    table = plain_table()
    table.add_column("", overflow="fold")
    for head in ("layers", "MACs", "share", "float", "packed", "ratio"):
        table.add_column(head, justify="right", no_wrap=True)
    macs = plan.binary_macs + plan.float_macs
    for binary, word in ((True, "binary layers"), (False, "float layers")):
        chosen = [d for d in plan.decisions if d.binary is binary]
        layer_macs = sum(d.layer.n_macs for d in chosen)
        before = sum(d.float_bytes for d in chosen)
        after = sum(d.packed_bytes for d in chosen)
        table.add_row(
            word,
            str(len(chosen)),
            count(layer_macs),
            _share(layer_macs, macs),
            byte_size(before),
            byte_size(after),
            ratio(before, after),
        )
    other = 4 * plan.n_other_params
    table.add_row(
        "norms and the rest",
        "",
        "",
        "",
        byte_size(other),
        byte_size(plan.other_bytes),
        ratio(other, plan.other_bytes),
        end_section=True,
    )
    packed = plan.packed_bytes(float_dtype)
    table.add_row(
        "network",
        str(len(plan.decisions)),
        count(macs),
        "",
        byte_size(plan.float_bytes),
        byte_size(packed),
        ratio(plan.float_bytes, packed),
        style="bold",
    )
    return table


def plan_notes(plan: Plan) -> list[str]:
    """Sentences below the totals: size at half precision, replaced activations."""
    half = plan.packed_bytes("float16")
    notes = [
        f"predicted packed size {byte_size(plan.packed_bytes())}, "
        f"or {byte_size(half)} ({ratio(plan.float_bytes, half)}) with `--float-dtype float16`"
    ]
    replaced = len(plan.replaced_activations)
    if replaced:
        many = "activations that feed" if replaced > 1 else "activation that feeds"
        notes.append(f"{replaced} {many} a sign: replaced by {plan.options.activation}")
    return notes + _limits(plan)


def _limits(plan: Plan) -> list[str]:
    """What tracing could not see, and what could be fused first."""
    notes = []
    unseen = [d for d in plan.decisions if d.layer.unseen]
    if unseen:
        first, *further = dict.fromkeys(d.layer.unseen for d in unseen)
        more = f" (and {len(further)} other reasons)" if further else ""
        kept = sum(bool(d.layer.never_negative) and not d.binary for d in unseen)
        notes.append(
            f"tracing failed: {first}{more}; so no ReLU there can be replaced, functional or not, "
            "and no shortcut added. Of "
            f"{counted(len(unseen), 'layer')} planned from a recorded run, "
            f"{sum(d.binary for d in unseen)} are binary, and {kept} stay float because their "
            "input is never negative"
        )
    if plan.n_fusable:
        notes.append(
            f"fusing multi-branch blocks first saves {counted(plan.n_fusable, 'layer')}: "
            "`--reparameterize`"
        )
    return notes


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else ""


def shortcut_line(notes: Mapping[str, str]) -> str:
    """One line: how many binary convolutions got which shortcut, and which got none.

    Args:
        notes: layer → its shortcut, or `none: ` and why.
    """
    counts = Counter(note for note in notes.values() if not note.startswith("none: "))
    parts = [f"{n} × {note}" for note, n in counts.most_common()]
    parts += [
        f"none for `{name}` ({n.removeprefix('none: ')})"
        for name, n in notes.items()
        if n.startswith("none: ")
    ]
    return "shortcuts: " + ", ".join(parts)
