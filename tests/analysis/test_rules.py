"""Rules for a set of layers: they mean it and nothing else, and are few."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irbin.analysis.rules import keep_rules
from irbin.planning.plan import matches

BLOCKS = [f"layer{i}.{j}.conv{k}" for i in (1, 2, 3) for j in (0, 1) for k in (1, 2)]


@pytest.mark.parametrize(
    ("kept", "rules"),
    [
        ([], ()),
        (["layer1.0.conv1"], ("layer1.0.conv1",)),
        ([n for n in BLOCKS if n.startswith("layer2")], ("layer2",)),
        ([n for n in BLOCKS if n.endswith("conv1")], ("*.conv1",)),
        (BLOCKS[:5], ("layer1", "layer2.0.conv1")),
        ([n for n in BLOCKS if n.startswith("layer3.1")], ("layer3.1",)),
    ],
)
def test_a_rule_is_as_wide_as_it_can_be(kept, rules):
    assert keep_rules(kept, [n for n in BLOCKS if n not in kept]) == rules


def test_everything_of_one_module_is_named_by_it():
    assert keep_rules(["body.a", "body.b"], ["head"]) == ("body",)


part = st.sampled_from(["a", "b", "conv1", "x[0]", "*", "0", "re:a"])
names = st.lists(st.lists(part, min_size=1, max_size=3).map(".".join), unique=True, max_size=9)


@pytest.mark.slow
@given(names=names, data=st.data())
def test_rules_match_what_is_kept_and_nothing_binary(names, data):
    names = [name for name in names if not name.startswith("re:")]
    kept = [name for name in names if data.draw(st.booleans())]
    binary = [name for name in names if name not in kept]
    rules = keep_rules(kept, binary)
    for name in names:
        assert any(matches(rule, name) for rule in rules) == (name in kept)
    assert len(set(rules)) == len(rules) <= len(kept)


def test_a_layer_inside_another_one_is_left_alone():
    (rule,) = keep_rules(["attn"], ["attn.proj"])
    assert matches(rule, "attn")
    assert not matches(rule, "attn.proj")
