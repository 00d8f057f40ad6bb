"""Any part of a plan is a plan, and the rules for it give it back."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from irbin.analysis.choices import choices
from irbin.errors import PlanError
from irbin.planning.estimate import estimate
from irbin.planning.plan import make_plan
from irbin.records.plan import PlanOptions

LAYERS = ("a.0.conv1", "a.0.conv2", "a.1.conv1", "b.0.conv1", "b.0.conv2")


def test_every_binary_layer_is_a_choice(space):
    assert tuple(space.groups) == LAYERS == space.full.binary_names


def test_a_block_is_what_one_module_holds(graph):
    blocks = choices(graph, PlanOptions(), "block").groups
    assert blocks == {"a.0": LAYERS[:2], "a.1": LAYERS[2:3], "b.0": LAYERS[3:]}


def test_a_layer_at_the_root_is_a_block_of_its_own(graph):
    space = choices(graph, PlanOptions(binarize=("fc",)), "block")
    assert space.groups["fc"] == ("fc",)


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.sets(st.sampled_from(LAYERS), min_size=1),
    activation=st.sampled_from(["hardtanh", "prelu"]),
    keep=st.sampled_from([(), ("a.1",)]),
)
def test_a_part_is_what_was_asked_for_by_both_ways(graph, names, activation, keep):
    options = PlanOptions(activation=activation, keep=keep)
    space = choices(graph, options, "layer")
    names = {name for name in names if name in space.groups}
    if not names:
        return
    expected = tuple(name for name in LAYERS if name in names)
    again = make_plan(graph, space.options(names))
    assert space.plan(names).binary_names == again.binary_names == expected
    assert space.packed_bytes(names) == again.packed_bytes()
    assert space.seconds(names) == pytest.approx(estimate(again).packed_seconds)
    assert again.options.keep[: len(keep)] == keep


@pytest.mark.parametrize("activation", ["hardtanh", "prelu"])
def test_nothing_binary_weighs_what_the_float_network_does(graph, activation):
    space = choices(graph, PlanOptions(activation=activation), "layer")
    assert space.packed_bytes(()) == space.full.float_bytes
    assert space.plan(()).binary_names == ()
    assert space.seconds(()) > space.seconds(LAYERS)


def test_what_each_saves_adds_up_where_nothing_is_shared(space):
    saved = sum(map(space.bytes_saved, LAYERS))
    assert saved == space.packed_bytes(()) - space.packed_bytes(LAYERS)
    seconds = sum(map(space.seconds_saved, LAYERS))
    assert seconds == pytest.approx(space.seconds(()) - space.seconds(LAYERS))


def test_a_network_without_choices_is_told_by_the_plan(graph):
    with pytest.raises(PlanError, match="expected at least one layer to binarize"):
        choices(graph, PlanOptions(keep=("a", "b")), "layer")


@pytest.mark.parametrize("by", ["layer", "block"])
def test_layers_with_one_weight_are_one_choice(graph, by):
    ties = {
        "a.0.conv1": ("b.0.conv1", "b.0.conv2"),
        "b.0.conv1": ("a.0.conv1", "b.0.conv2"),
        "b.0.conv2": ("a.0.conv1", "b.0.conv1"),
    }
    layers = tuple(replace(r, tied_to=ties.get(r.name, ())) for r in graph.layers)
    space = choices(replace(graph, layers=layers), PlanOptions(), by)
    group = next(g for g in space.groups.values() if "a.0.conv1" in g)
    wanted = {"layer": ("a.0.conv1", *LAYERS[3:]), "block": (*LAYERS[:2], *LAYERS[3:])}
    assert group == wanted[by]
    for name, its_layers in space.groups.items():
        assert sorted(space.plan([name]).binary_names) == sorted(its_layers)
