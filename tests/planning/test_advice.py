"""Every sentence, whole, on both sides of its threshold."""

from __future__ import annotations

import pytest

from irbin.planning.advice import advice, percent, times, verdict
from irbin.records.plan import Decision, Estimate, LayerRecord, Plan, PlanOptions


def estimate_of(**numbers) -> Estimate:
    defaults = {
        "float_seconds": 8.1,
        "packed_seconds": 1.0,
        "binary_macs": 0.97,
        "binary_bytes": 0.93,
        "packed_parts": {"float layers": 0.6, "binary layers": 0.4},
        "shrinkage": 11.2,
    }
    return Estimate(**(defaults | numbers))


def decision(name: str, reason: str, n_macs: int, packed_bytes: int = 0, **facts) -> Decision:
    layer = LayerRecord(
        name, "conv2d", "Conv2d", (8, 8, 3, 3), 1, False, n_macs, (8, 4, 4), (8, 4, 4), **facts
    )
    return Decision(layer, reason == "binary", reason, packed_bytes)


def plan_of(*decisions: Decision, other_macs: int = 0, bits: str = "1w1a") -> Plan:
    options = PlanOptions(bits=bits)
    return Plan(options, decisions, (3, 8, 8), 10, 40, 10, other_macs=other_macs)


BODY = decision("body", "binary", 50)


def test_worth_it_is_one_line_and_no_advice() -> None:
    found, plan = estimate_of(), plan_of(BODY)
    line = "binary: 97 % of multiply-adds, 93 % of bytes; estimated 8.1× faster, 11× smaller"
    assert verdict(found, plan) == line
    assert advice(found, plan) == ()


SPEEDS = {
    0.5: "2.0× slower",
    0.94: "1.06× slower",
    0.95: "no faster",
    1.04: "no faster",
    1.06: "1.06× faster",
    1.5: "1.50× faster",
    19.2: "19× faster",
}


@pytest.mark.parametrize(("speed_up", "words"), SPEEDS.items())
def test_the_verdict_says_slower_too(speed_up: float, words: str) -> None:
    line = verdict(estimate_of(float_seconds=speed_up), plan_of(BODY))
    assert line.endswith(f"; estimated {words}, 11× smaller")


def test_weights_alone_in_bits_gain_size_alone() -> None:
    found, plan = estimate_of(float_seconds=1.0, binary_macs=0.1), plan_of(BODY, bits="1w32a")
    line = "binary weights: 10 % of multiply-adds, 93 % of bytes; 11× smaller"
    assert verdict(found, plan) == line
    assert advice(found, plan) == (
        "1w32a gains size alone: weights are unpacked to floats, and the arithmetic is float "
        "arithmetic; 1w1a is for speed",
    )


def test_a_network_of_depthwise_convolutions_is_told_so() -> None:
    found = estimate_of(float_seconds=1.1, binary_macs=0.05)
    deep = decision("deep", "depthwise", 950, is_depthwise=True)
    assert advice(found, plan_of(BODY, deep)) == (
        "95 % of multiply-adds are depthwise convolutions, which stay float: binarizing gains "
        "little (estimated 1.10× faster); a network with dense convolutions such as resnet18 "
        "gains 8×",
    )
    half = decision("deep", "depthwise", 50, is_depthwise=True)
    assert advice(found, plan_of(BODY, half))[0].startswith("50 % of multiply-adds are depthwise")
    less = decision("deep", "depthwise", 49, is_depthwise=True)
    assert not advice(estimate_of(), plan_of(BODY, less))
    wanted = decision("deep", "binary", 950, is_depthwise=True)
    assert not advice(estimate_of(), plan_of(BODY, wanted))


def test_few_binary_multiply_adds_have_their_largest_reason() -> None:
    found = estimate_of(binary_macs=0.25)
    first, last = decision("stem", "first layer", 90), decision("head", "last layer", 60)
    assert advice(found, plan_of(BODY, first, last)) == (
        "only 25 % of multiply-adds become binary; 45 % stay float for one reason: "
        "first layer (`stem`)",
    )
    assert not advice(estimate_of(binary_macs=0.5), plan_of(BODY, first, last))


def test_reasons_that_quote_different_names_are_one() -> None:
    found = estimate_of(binary_macs=0.25)
    read = [decision(f"a.{i}", f"its weight is read by `f{i}`", 40) for i in range(3)]
    first = decision("stem", "first layer", 30)
    assert advice(found, plan_of(BODY, first, *read)) == (
        "only 25 % of multiply-adds become binary; 60 % stay float for one reason: "
        "its weight is read by `f0` (`a.0` and 2 more)",
    )


def test_products_of_activations_are_a_reason() -> None:
    found = estimate_of(binary_macs=0.25)
    first = decision("stem", "first layer", 50)
    assert advice(found, plan_of(BODY, first, other_macs=100)) == (
        "only 25 % of multiply-adds become binary; 50 % stay float for one reason: "
        "products of activations, as in attention, have no binary form",
    )


def test_no_speed_names_where_the_time_goes() -> None:
    parts = {"added shortcuts": 0.43, "binary layers": 0.57}
    found = estimate_of(float_seconds=1.19, packed_parts=parts)
    assert advice(found, plan_of(BODY)) == (
        "not worth it for speed (estimated 1.19× faster; 43 % of its time would go to added "
        "shortcuts), though it may be for size (11× smaller)",
    )
    assert not advice(estimate_of(float_seconds=1.2), plan_of(BODY))
    nothing = estimate_of(float_seconds=0.0, packed_seconds=0.0, packed_parts={})
    assert advice(nothing, plan_of(BODY)) == (
        "not worth it for speed (estimated no faster), though it may be for size (11× smaller)",
    )


def test_no_size_names_the_largest_part() -> None:
    found = estimate_of(shrinkage=1.99)
    last = decision("fc", "last layer", 1, packed_bytes=360)
    assert advice(found, plan_of(BODY, last)) == (
        "hardly smaller (1.99×): 90 % of the packed bytes are `fc` (last layer); "
        "`float_dtype='float16'` halves what stays float",
    )
    assert advice(found, plan_of(BODY)) == (
        "hardly smaller (1.99×): 100 % of the packed bytes are norms, embeddings and the like; "
        "`float_dtype='float16'` halves what stays float",
    )
    assert not advice(estimate_of(shrinkage=2.0), plan_of(BODY, last))


def test_neither_speed_nor_size_is_two_sentences() -> None:
    found = estimate_of(float_seconds=1.1, shrinkage=1.5)
    speed, size = advice(found, plan_of(BODY))
    assert speed == (
        "not worth it for speed (estimated 1.10× faster; 60 % of its time would go to float layers)"
    )
    assert size.startswith("hardly smaller (1.50×): ")


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0, "0 %"), (0.001, "1 %"), (0.5, "50 %"), (0.999, "99 %"), (1, "100 %"), (1.0, "100 %")],
)
def test_only_all_is_hundred_per_cent_and_only_nothing_none(share: float, shown: str) -> None:
    assert percent(share) == shown


@pytest.mark.parametrize(
    ("ratio", "shown"), [(1.994, "1.99×"), (1.996, "2.0×"), (9.94, "9.9×"), (9.96, "10×")]
)
def test_ratios_have_the_digits_they_need(ratio: float, shown: str) -> None:
    assert times(ratio) == shown
