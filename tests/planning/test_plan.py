"""Decisions, rules and predictions on layer facts written by hand; no network, no torch."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irbin.errors import PlanError
from irbin.planning.plan import NEVER_RUNS, binary_bytes, make_plan, matches
from irbin.records.json import from_json, to_json
from irbin.records.plan import LayerGraph, LayerRecord, Plan, PlanOptions


def layer(name: str, **facts) -> LayerRecord:
    defaults = {
        "kind": "conv2d",
        "type_name": "Conv2d",
        "weight_shape": (8, 8, 3, 3),
        "groups": 1,
        "has_bias": False,
        "n_macs": 100,
        "input_shape": (8, 4, 4),
        "output_shape": (8, 4, 4),
    }
    return LayerRecord(name=name, **(defaults | facts))


def graph(*layers: LayerRecord, **facts) -> LayerGraph:
    defaults = {"n_other_params": 16, "other_bytes": 64, "n_other_floats": 16}
    return LayerGraph(layers=layers, input_size=(3, 8, 8), **(defaults | facts))


FIRST, LAST = layer("stem.conv", is_first=True), layer("head", is_last=True)


def decide(*layers: LayerRecord, **options) -> Plan:
    return make_plan(graph(FIRST, *layers, layer("body.conv"), LAST), PlanOptions(**options))


def reason(found: Plan, name: str) -> str:
    return next(d.reason for d in found.decisions if d.layer.name == name)


POLICY = {
    "first layer": {"is_first": True},
    "last layer": {"is_last": True},
    "1×1 shortcut": {"is_shortcut": True},
    "depthwise": {"is_depthwise": True},
    "squeeze-excite gate": {"is_gate": True},
    "input never negative (softmax)": {"never_negative": "softmax"},
    "input always negative (logsigmoid)": {"always_negative": "logsigmoid"},
    "`LSTM` has no binary form": {"obstacle": "`LSTM` has no binary form"},
    NEVER_RUNS: {"obstacle": NEVER_RUNS, "is_first": True},
    "binary": {},
}


@pytest.mark.parametrize("expected", POLICY)
def test_the_policy_gives_its_reason_in_words(expected: str) -> None:
    found = decide(layer("x", **POLICY[expected]))
    assert reason(found, "x") == expected
    assert ("x" in found.binary_names) == (expected == "binary")


@pytest.mark.parametrize("fact", ["never_negative", "always_negative"])
def test_weights_alone_do_not_mind_inputs_of_one_sign(fact: str) -> None:
    found = decide(layer("x", **{fact: "softmax"}), bits="1w32a")
    assert reason(found, "x") == "binary"


@pytest.mark.parametrize("rule", ["x", "x.*", "x.0", "re:x\\.\\d", "?.0"])
def test_keep_wins_over_binarize_and_both_over_the_policy(rule: str) -> None:
    shortcut = layer("x.0", is_shortcut=True)
    found = decide(shortcut, binarize=(rule,))
    assert reason(found, "x.0") == f"binarized by rule '{rule}'"
    found = decide(shortcut, binarize=(rule,), keep=(rule,))
    assert reason(found, "x.0") == f"kept by rule '{rule}'"


MATCHES = {
    ("layer4", "layer4.0.conv1"): True,
    ("layer4.0", "layer4.0.conv1"): True,
    ("layer", "layer4.0.conv1"): False,
    ("layer[34]", "layer4.0.conv1"): True,
    ("*.conv1", "layer4.0.conv1"): True,
    ("Layer4", "layer4.0.conv1"): False,
    ("conv1", "layer4.0.conv1"): False,
    ("re:layer4", "layer4.0.conv1"): False,
    ("re:layer4.*conv\\d", "layer4.0.conv1"): True,
}


@pytest.mark.parametrize(("rule", "name"), MATCHES, ids=[" ~ ".join(m) for m in MATCHES])
def test_rules_mean_layers_and_the_modules_around_them(rule: str, name: str) -> None:
    assert matches(rule, name) is MATCHES[rule, name]


@given(st.lists(st.text("abc019_", min_size=1), min_size=1, max_size=5))
def test_every_name_and_every_prefix_means_the_layer(parts: list[str]) -> None:
    name = ".".join(parts)
    assert all(matches(".".join(parts[: n + 1]), name) for n in range(len(parts)))


@pytest.mark.parametrize("option", ["keep", "binarize"])
def test_a_rule_that_matches_nothing_names_the_nearest_layers(option: str) -> None:
    expected = rf"`{option}` rule `body\.cnov` matches no layer; the nearest names are `body.conv`"
    with pytest.raises(PlanError, match=expected):
        decide(**{option: ("body.cnov",)})


def test_a_broken_regular_expression_is_an_error() -> None:
    with pytest.raises(PlanError, match=r"rule `re:\(`: expected a regular expression"):
        decide(keep=("re:(",))


def test_a_plan_without_a_binary_layer_says_why() -> None:
    expected = r"all 3 stay float: 1 × first layer; 1 × kept by rule 'body'; 1 × last layer; change"
    with pytest.raises(PlanError, match=expected):
        decide(keep=("body",))


def test_layers_with_one_weight_are_all_binary_or_all_float() -> None:
    a, b = layer("a", tied_to=("b",)), layer("b", tied_to=("a",))
    assert decide(a, b).binary_names == ("a", "b", "body.conv")
    last = layer("b", tied_to=("a",), is_depthwise=True)
    found = decide(a, last)
    assert found.binary_names == ("body.conv",)
    assert reason(found, "a") == "its weight is also that of `b`, which stays float (depthwise)"
    assert reason(found, "b") == "depthwise"
    assert reason(decide(a, b, keep=("a",)), "b") == (
        "its weight is also that of `a`, which stays float (kept by rule 'a')"
    )
    assert decide(a, last, binarize=("a", "b")).binary_names == ("a", "b", "body.conv")


def test_half_of_a_shared_weight_cannot_be_asked_for() -> None:
    with pytest.raises(PlanError) as caught:
        decide(
            layer("a", tied_to=("b",)),
            layer("b", tied_to=("a",), is_depthwise=True),
            binarize=("a",),
        )
    assert str(caught.value) == (
        "`binarize` rule `a`: `a` cannot be binarized alone: its weight is also that of `b`, which "
        "stays float (depthwise); binarize both, or drop the rule"
    )


def test_a_layer_with_an_obstacle_cannot_be_asked_for() -> None:
    with pytest.raises(
        PlanError, match=r"rule `x`: `x` cannot be binarized: it stands on its head"
    ):
        decide(layer("x", obstacle="it stands on its head"), binarize=("x",))


def test_a_sign_that_is_always_positive_cannot_be_asked_for() -> None:
    with pytest.raises(PlanError, match=r"`x` is never negative \(softmax\).*use `bits='1w32a'`"):
        decide(layer("x", never_negative="softmax"), binarize=("x",))
    with pytest.raises(PlanError, match=r"`x` is always negative \(seen\).*use `bits='1w32a'`"):
        decide(layer("x", always_negative="seen"), binarize=("x",))


def test_keeping_the_activation_in_front_of_a_sign_is_an_error() -> None:
    fed = layer("x", activations=("relu1",))
    expected = (
        r"`keep` leaves `x` behind the ReLU `relu1`, whose sign is always \+1 \(1 such layers\)"
    )
    with pytest.raises(PlanError, match=expected):
        decide(fed, activation="keep")
    assert decide(fed, activation="keep", bits="1w32a").replaced_activations == ()
    assert reason(decide(fed, activation="keep", keep=("x",)), "x") == "kept by rule 'x'"


SIZES = {
    # weight shape, has bias, binarizer → bytes
    ((8, 8, 3, 3), False, "libra"): 8 * 9 + 8,
    ((8, 9, 3, 3), True, "libra"): 8 * 9 * 2 + 8 + 32,
    ((5, 1, 1, 1), False, "libra"): 5 + 5,
    ((10, 64), True, "libra"): 80 + 10 + 40,
    ((10, 65), False, "plain"): 90 + 40,
}


@pytest.mark.parametrize(("shape", "has_bias", "binarizer"), SIZES)
def test_packed_bytes_are_bits_exponents_and_bias(shape, has_bias, binarizer) -> None:
    found = binary_bytes(
        layer("x", weight_shape=shape, has_bias=has_bias), PlanOptions(binarizer=binarizer)
    )
    assert found == SIZES[shape, has_bias, binarizer]


def test_totals_add_up_and_layers_that_never_run_weigh_nothing() -> None:
    spare = layer("spare", obstacle=NEVER_RUNS, n_macs=0, has_bias=True)
    found = decide(spare)
    floats = 2 * 4 * 576
    assert found.packed_bytes() == floats + (72 + 8) + 64
    assert found.packed_bytes("float16") == floats // 2 + 80 + 32
    assert found.float_bytes == 4 * (4 * 576 + 8 + 16)
    assert (found.binary_macs, found.float_macs) == (100, 200)


def test_new_prelu_slopes_are_counted() -> None:
    fed = layer("x", activations=("a", "b")), layer("y", activations=("a",))
    facts = graph(FIRST, *fed, LAST, activation_channels={"a": 8, "b": 1, "c": 64})
    found = make_plan(facts, PlanOptions(activation="prelu"))
    assert found.replaced_activations == ("a", "b")
    assert found.other_bytes == 64 + 4 * 9
    assert found.n_other_floats == 16 + 9
    assert make_plan(facts, PlanOptions()).other_bytes == 64


@pytest.mark.parametrize(("activation", "per_channel"), [("prelu", 1), ("rprelu", 3)])
@pytest.mark.parametrize("sign_threshold", ["zero", "learned"])
def test_learned_vectors_are_counted(
    activation: str, per_channel: int, sign_threshold: str
) -> None:
    fed = (
        layer("x", activations=("a", "b"), weight_shape=(8, 5, 3, 3), groups=4),
        layer("y", kind="linear", weight_shape=(8, 7), activations=("a",)),
        layer("z", keeps_size=True, is_shortcut=True),
    )
    facts = graph(FIRST, *fed, LAST, activation_channels={"a": 8, "b": 1, "c": 64})
    found = make_plan(facts, PlanOptions(activation=activation, sign_threshold=sign_threshold))
    n = per_channel * 9 + (4 * 5 + 7) * (sign_threshold == "learned")
    assert found.other_bytes == 64 + 4 * n
    assert found.n_other_floats == 16 + n


CONTRADICTIONS = {
    "no sign of an activation": (
        {"bits": "1w32a", "sign_threshold": "learned"},
        "`sign_threshold='learned'`: expected binary activations, but at `1w32a` no sign of an "
        "activation is taken; use `bits='1w1a'`, or leave the option out",
    ),
    "no balance": (
        {"binarizer": "plain", "balance": "median"},
        "`balance='median'`: expected Libra-PB, but `binarizer='plain'` balances nothing; use "
        "`binarizer='libra'`, or leave the option out",
    ),
}


@pytest.mark.parametrize(("options", "message"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_options_that_contradict_each_other_are_errors(options: dict, message: str) -> None:
    with pytest.raises(PlanError) as raised:
        decide(**options)
    assert str(raised.value) == message


def test_weights_alone_may_be_balanced_by_the_median_and_pooled() -> None:
    found = decide(bits="1w32a", balance="median", downsample="avgpool")
    assert found.binary_names == ("body.conv",)


@pytest.mark.parametrize("activation", ["hardtanh", "prelu", "rprelu"])
def test_products_in_no_layer_are_work_of_the_plan(activation: str) -> None:
    fed = layer("x", activations=("a",))
    facts = graph(FIRST, fed, LAST, activation_channels={"a": 8}, other_macs=7)
    found = make_plan(facts, PlanOptions(activation=activation))
    assert (found.other_macs, found.n_macs) == (7, 307)


def test_a_plan_survives_json() -> None:
    found = decide(layer("x", activations=("a",)))
    assert from_json(Plan, to_json(found), "plan") == found


def test_planning_loads_no_torch() -> None:
    code = "import sys, irbin.planning.plan; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_where_tracing_failed_the_plan_says_so_and_what_it_costs() -> None:
    why = "cannot trace `Net.forward`: control flow depends on a tensor: `if x > 0:` (at n.py:7)"
    blind = layer("a", unseen=why, never_negative="as seen in a run")
    first, last = layer("stem", is_first=True, unseen=why), layer("head", is_last=True, unseen=why)
    with pytest.raises(PlanError) as caught:
        make_plan(graph(first, blind, last), PlanOptions())
    assert "tracing failed here, so no ReLU before it can be replaced" in str(caught.value)
    assert f"; tracing failed: {why}; change that line, or take `bits='1w32a'`" in str(caught.value)
    assert "--binarize" not in str(caught.value)
    with pytest.raises(PlanError, match=r"never negative \(as seen in a run; tracing failed here"):
        make_plan(graph(first, blind, layer("b"), last), PlanOptions(binarize=("a",)))
