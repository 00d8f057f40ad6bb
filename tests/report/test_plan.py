from __future__ import annotations

from dataclasses import replace

import pytest

from irbin.records.plan import Plan, PlanOptions
from irbin.report.plan import (
    layer_table,
    plan_heading,
    plan_notes,
    shortcut_line,
    totals_table,
)


def squeezed(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize("width", [80, 99, 100, 120, 200])
def test_no_fact_of_a_layer_is_cut(plan: Plan, render, width: int) -> None:
    text = render(layer_table(plan, width), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for decision in plan.decisions:
        assert decision.layer.name in text
        assert "×".join(map(str, decision.layer.weight_shape)) in text
    lines = [line[61:] if width < 100 else line for line in text.splitlines()]
    folded = squeezed("".join(lines))
    for decision in plan.decisions:
        if decision.reason != "binary":
            assert squeezed(decision.reason) in folded


@pytest.mark.parametrize("width", [60, 80, 100])
def test_long_names_stay_whole(plan: Plan, render, width: int) -> None:
    name = "stages.0.blocks.1.token_mixer.reparam_conv"
    named = replace(plan.decisions[1], layer=replace(plan.decisions[1].layer, name=name))
    text = render(layer_table(replace(plan, decisions=(*plan.decisions, named)), width), width)
    assert any(line.startswith(f"{name} ") for line in text.splitlines())
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize("width", [60, 80, 120])
def test_short_names_do_not_break_their_head(plan: Plan, render, width: int) -> None:
    named = [
        replace(d, layer=replace(d.layer, name=name))
        for d, name in zip(plan.decisions, "abc", strict=False)
    ]
    text = render(layer_table(replace(plan, decisions=tuple(named)), width), width)
    assert text.splitlines()[0].split()[0] == "layer"


@pytest.mark.parametrize("width", [80, 120])
def test_one_line_a_layer_where_the_reason_is_short(plan: Plan, render, width: int) -> None:
    short = replace(plan, decisions=plan.decisions[:2])
    lines = render(layer_table(short, width), width).splitlines()
    assert len(lines) == 2 + 2
    assert lines[2].split()[0] == "conv1"
    assert lines[2].rstrip().endswith("first layer")
    assert lines[3].rstrip().endswith("binary")


def test_kind_names_what_is_not_binarizable(plan: Plan, render) -> None:
    layer = replace(plan.decisions[0].layer, kind="other", type_name="ConvTranspose2d")
    other = replace(plan.decisions[0], layer=layer)
    deep = replace(other, layer=replace(plan.decisions[0].layer, is_depthwise=True))
    text = render(layer_table(replace(plan, decisions=(other, deep)), 120), 120)
    assert "ConvTranspose2d" in text
    assert "depthwise" in text


def test_names_with_brackets_are_not_markup(plan: Plan, render) -> None:
    odd = replace(plan.decisions[0], reason="kept by rule 're:[bold]'")
    assert "re:[bold]" in render(layer_table(replace(plan, decisions=(odd,)), 120), 120)


def test_totals_are_the_plans(plan: Plan, render) -> None:
    lines = render(totals_table(plan), 80).splitlines()
    rows = {line.split("  ")[0].strip(): line.split() for line in lines if line.strip()}
    assert rows["binary layers"][2:6] == ["2", "2.00", "M", "40.0"]
    assert rows["float layers"][2:6] == ["3", "3.00", "M", "60.0"]
    assert rows["network"][1:4] == ["5", "5.00", "M"]
    shown = " ".join(rows["network"])
    assert f"{plan.float_bytes / 1e6:.1f} MB" in shown
    assert f"{plan.packed_bytes() / 1e6:.2f} MB" in shown


def test_totals_of_a_plan_without_macs_do_not_divide_by_zero(plan: Plan, render) -> None:
    assert "network" in render(totals_table(replace(plan, decisions=(), other_bytes=0)), 80)


def test_notes_tell_half_precision_and_replaced_activations(plan: Plan) -> None:
    size, replaced = plan_notes(plan)
    assert f"{plan.packed_bytes('float16') / 1e6:.2f} MB" in size
    assert replaced == "1 activation that feeds a sign: replaced by hardtanh"
    weights_only = replace(plan, options=PlanOptions(bits="1w32a"))
    assert len(plan_notes(weights_only)) == 1


def test_heading_names_source_bits_and_shortcut(plan: Plan) -> None:
    assert plan_heading("net", plan) == "net: 1w1a, libra/ede, input 3×224×224"
    bireal = replace(plan, options=PlanOptions(shortcut="bireal"))
    assert "bireal shortcuts" in plan_heading("net", bireal)


def test_heading_names_every_switch_that_was_turned(plan: Plan) -> None:
    options = PlanOptions(
        activation="rprelu",
        sign_threshold="learned",
        downsample="avgpool",
        balance="median",
        estimator="triangle",
        weight_estimator="identity",
    )
    turned = replace(plan, options=options)
    assert plan_heading("net", turned) == (
        "net: 1w1a, libra (median)/triangle, weights identity, average-pool shortcuts, "
        "learned thresholds, input 3×224×224"
    )
    same = replace(plan, options=PlanOptions(estimator="ste", weight_estimator="ste"))
    assert plan_heading("net", same) == "net: 1w1a, libra/ste, input 3×224×224"
    assert plan_notes(turned)[1] == "1 activation that feeds a sign: replaced by rprelu"


def test_shortcuts_are_counted_and_missing_ones_named() -> None:
    notes = {"a": "identity", "b": "identity", "c": "none: 3 channels cannot become 7"}
    assert shortcut_line(notes) == (
        "shortcuts: 2 × identity, none for `c` (3 channels cannot become 7)"
    )


def test_a_note_says_that_tracing_failed_where_and_what_that_means(plan: Plan) -> None:
    why = "cannot trace `Net.forward`: control flow depends on a tensor: `if x > 0:` (at n.py:7)"
    first, *others = plan.decisions
    blind = replace(first.layer, unseen=why, never_negative="as seen in a run")
    seen = [replace(d, layer=replace(d.layer, unseen=why)) for d in others]
    first = replace(first, layer=blind, binary=False)
    notes = plan_notes(replace(plan, decisions=(first, *seen)))
    told = next(note for note in notes if note.startswith(f"tracing failed: {why}; so no ReLU"))
    n_binary = sum(d.binary for d in seen)
    assert f"Of {1 + len(seen)} layers planned from a recorded run, {n_binary} are binary" in told
    assert "1 stay float because their input is never negative" in told
    assert not any("tracing" in note for note in plan_notes(plan))
