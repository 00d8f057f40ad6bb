"""Laws of the estimate, on layers and plans written by hand."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import irbin
from irbin.planning.estimate import estimate, estimate_layer
from irbin.records.plan import Decision, LayerRecord, Plan, PlanOptions


def conv(
    n_in: int, n_out: int, kernel: int = 3, size: int = 14, *, groups: int = 1, **facts
) -> LayerRecord:
    defaults = {
        "name": "conv",
        "kind": "conv2d",
        "type_name": "Conv2d",
        "has_bias": False,
        "weight_shape": (n_out, n_in // groups, kernel, kernel),
        "groups": groups,
        "n_macs": n_out * (n_in // groups) * kernel**2 * size**2,
        "input_shape": (n_in, size, size),
        "output_shape": (n_out, size, size),
        "is_depthwise": groups == n_in > 1,
        "activations": ("relu",),
    }
    return LayerRecord(**(defaults | facts))


def linear(n_in: int, n_out: int, *, length: int = 196, **facts) -> LayerRecord:
    defaults = {
        "name": "linear",
        "kind": "linear",
        "type_name": "Linear",
        "has_bias": True,
        "weight_shape": (n_out, n_in),
        "groups": 1,
        "n_macs": n_in * n_out * length,
        "input_shape": (length, n_in),
        "output_shape": (length, n_out),
    }
    return LayerRecord(**(defaults | facts))


def plan_of(*decisions: Decision, other_macs: int = 0, **options) -> Plan:
    return Plan(PlanOptions(**options), decisions, (3, 32, 32), 0, 0, 0, other_macs=other_macs)


LAYERS = {
    "dense": conv(256, 256),
    "pointwise": conv(256, 256, 1),
    "grouped": conv(256, 256, groups=8),
    "depthwise": conv(256, 256, groups=256),
    "linear": linear(192, 768),
    "vector": linear(512, 1000, length=1),
    "recurrent": linear(64, 64, kind="other", type_name="LSTM"),
}


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS.keys())
@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("bits", ["1w1a", "1w32a"])
def test_every_layer_that_runs_takes_time(layer: LayerRecord, binary: bool, bits: str) -> None:
    assert estimate_layer(layer, binary, bits) > 0
    idle = replace(layer, n_macs=0, input_shape=(), output_shape=())
    assert estimate_layer(idle, binary, bits) == 0


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS.keys())
@given(st.integers(1, 10**9), st.integers(1, 10**9))
def test_more_multiply_adds_take_longer(layer: LayerRecord, few: int, more: int) -> None:
    for binary in (False, True):
        seconds = estimate_layer(replace(layer, n_macs=few), binary, "1w1a")
        longer = estimate_layer(replace(layer, n_macs=few + more), binary, "1w1a")
        assert seconds < longer


@given(st.integers(64, 2048), st.integers(64, 2048), st.sampled_from([3, 5, 7]), st.integers(1, 64))
def test_a_wide_dense_layer_is_never_slower_in_bits(
    n_in: int, n_out: int, kernel: int, size: int
) -> None:
    layer = conv(n_in, n_out, kernel, size)
    assert estimate_layer(layer, True, "1w1a") <= estimate_layer(layer, False, "1w1a")


@given(st.integers(192, 4096), st.integers(192, 4096), st.integers(32, 400))
def test_a_wide_linear_layer_is_never_slower_in_bits(n_in: int, n_out: int, length: int) -> None:
    layer = linear(n_in, n_out, length=length)
    assert estimate_layer(layer, True, "1w1a") <= estimate_layer(layer, False, "1w1a")


def test_channels_count_in_whole_words() -> None:
    seconds = [
        estimate_layer(conv(n, 64, n_macs=n * 10**6, input_shape=()), True, "1w1a")
        for n in (1, 63, 64, 65, 128)
    ]
    weights = 64 * 9 * 0.006e-9  # each more channel is read
    assert seconds[1] - seconds[0] == pytest.approx(62 * weights, rel=1e-3)
    assert seconds[2] - seconds[1] == pytest.approx(weights, rel=1e-3)
    assert seconds[3] - seconds[2] > 10 * weights
    assert seconds[4] - seconds[3] == pytest.approx(63 * weights, rel=1e-3)


def test_groups_cost_time_of_their_own() -> None:
    few, many = (conv(512, 512, groups=n, n_macs=10**6) for n in (2, 8))
    less = replace(many, weight_shape=few.weight_shape)
    assert estimate_layer(less, True, "1w1a") > 1.2 * estimate_layer(few, True, "1w1a")


def test_binary_depthwise_is_slower_than_float() -> None:
    layer = LAYERS["depthwise"]
    assert estimate_layer(layer, True, "1w1a") > 4 * estimate_layer(layer, False, "1w1a")


@pytest.mark.parametrize("name", LAYERS)
def test_weights_alone_in_bits_are_looked_up_in_convolutions_of_one_group(name: str) -> None:
    floats = estimate_layer(LAYERS[name], False, "1w1a")
    assert estimate_layer(LAYERS[name], False, "1w32a") == floats
    signs = estimate_layer(LAYERS[name], True, "1w32a")
    assert signs < 0.6 * floats if name in ("dense", "pointwise") else signs == floats


def test_the_first_convolution_reads_bytes() -> None:
    floats, first = (conv(3, 64, 7, 112, is_first=is_first) for is_first in (False, True))
    assert estimate_layer(first, False, "1w1a") < estimate_layer(floats, False, "1w1a")


FIRST = Decision(conv(3, 64, 7, 112, is_first=True, activations=()), False, "first layer", 37632)
BODY = Decision(conv(64, 64, size=56), True, "binary", 4672)
NARROW = Decision(conv(256, 64, 1, 56), True, "binary", 2112)
DEEP = Decision(conv(64, 64, groups=64), False, "depthwise", 2304)
LAST = Decision(linear(512, 1000, length=1, activations=("relu",)), False, "last layer", 2052000)


def test_the_network_is_the_sum_of_its_layers() -> None:
    plan = plan_of(FIRST, BODY, BODY, DEEP, LAST)
    found = estimate(plan)
    layers = [estimate_layer(d.layer, d.binary, "1w1a") for d in plan.decisions]
    assert found.packed_seconds == pytest.approx(sum(layers))
    assert found.packed_parts == {
        "float layers": pytest.approx(layers[0] + layers[4]),
        "binary layers": pytest.approx(2 * layers[1]),
        "float depthwise convolutions": pytest.approx(layers[3]),
    }
    assert list(found.packed_parts) == [
        "float layers",
        "binary layers",
        "float depthwise convolutions",
    ]
    assert found.speed_up == found.float_seconds / found.packed_seconds


def test_products_of_activations_stay_in_both_networks() -> None:
    without = estimate(plan_of(FIRST, BODY))
    found = estimate(plan_of(FIRST, BODY, other_macs=10**9))
    took = found.packed_parts["products of activations"]
    assert found.packed_seconds - without.packed_seconds == pytest.approx(took)
    assert took < found.float_seconds - without.float_seconds < 1.5 * took
    macs = FIRST.layer.n_macs + BODY.layer.n_macs
    assert found.binary_macs == pytest.approx(BODY.layer.n_macs / (macs + 10**9))


def test_a_shortcut_that_averages_channels_costs_time_where_one_is_added() -> None:
    plain, added = (estimate(plan_of(NARROW, shortcut=s)) for s in ("none", "bireal"))
    assert "added shortcuts" not in plain.packed_parts
    took = added.packed_parts["added shortcuts"]
    assert added.packed_seconds == pytest.approx(plain.packed_seconds + took)
    same = estimate(plan_of(replace(NARROW, layer=conv(64, 64, 1, 56)), shortcut="bireal"))
    assert 0 < same.packed_parts["added shortcuts"] < took
    assert "added shortcuts" not in estimate(plan_of(BODY, shortcut="bireal")).packed_parts
    vector = linear(192, 64, length=1, input_shape=(192,), output_shape=(64,))
    of_linear = replace(BODY, layer=vector)
    assert "added shortcuts" not in estimate(plan_of(of_linear, shortcut="bireal")).packed_parts


def test_what_no_kernel_computes_is_told_apart() -> None:
    plan = plan_of(FIRST, replace(BODY, layer=linear(192, 768)))
    assert "norms and activations on their own" in estimate(plan).packed_parts
    assert "norms and activations on their own" not in estimate(plan_of(FIRST)).packed_parts


def test_shares_and_shrinkage_are_the_plans() -> None:
    plan = plan_of(FIRST, BODY, LAST)
    found = estimate(plan)
    assert found.binary_macs == plan.binary_macs / (plan.binary_macs + plan.float_macs)
    assert found.binary_bytes == BODY.float_bytes / plan.float_bytes
    assert found.shrinkage == plan.float_bytes / plan.packed_bytes()


def test_a_plan_without_layers_is_no_error() -> None:
    found = estimate(plan_of())
    assert (found.speed_up, found.packed_parts, found.binary_macs) == (1.0, {}, 0.0)


@pytest.mark.slow
def test_estimating_is_public_and_loads_no_torch() -> None:
    assert irbin.estimate is estimate
    code = "import sys, irbin; irbin.estimate; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
