from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from irbin.runtime.buffers import ALIGNMENT, Need, place


@st.composite
def programs(draw) -> list[Need]:
    """Results of items in order, one or two each; some may be written over what they add."""
    needs: list[Need] = []
    for item in range(draw(st.integers(0, 12))):
        for _ in range(draw(st.integers(0, 2))):
            n_bytes = draw(st.sampled_from([0, 1, 63, 64, 65, 128, 200, 1000]))
            last = item + draw(st.integers(0, 6))
            over = draw(st.sets(st.sampled_from([n.name for n in needs]))) if needs else ()
            needs.append(Need(f"r{len(needs)}", n_bytes, item, last, tuple(sorted(over))))
    return needs


def taken(need: Need) -> int:
    """Whole cache lines, at least one."""
    return max(-(-need.n_bytes // ALIGNMENT), 1) * ALIGNMENT


def may_share(one: Need, other: Need) -> bool:
    """Whether `other`, made later, may lie where `one` does."""
    if one.last < other.first:
        return True
    return one.name in other.over and one.last == other.first and one.n_bytes == other.n_bytes


CHAIN = [Need(f"r{i}", 100, i, i + 1) for i in range(6)]


@pytest.mark.slow
@given(programs())
@example([])
@example(CHAIN)
def test_results_that_are_needed_at_the_same_time_share_no_byte(needs):
    offsets, _ = place(needs)
    for one, other in combinations(needs, 2):
        a, b = offsets[one.name], offsets[other.name]
        apart = a + taken(one) <= b or b + taken(other) <= a
        assert apart or may_share(one, other)


@pytest.mark.slow
@given(programs())
def test_every_result_lies_in_the_block_on_lines_of_its_own(needs):
    offsets, total = place(needs)
    assert offsets.keys() == {need.name for need in needs}
    for need in needs:
        assert offsets[need.name] % ALIGNMENT == 0
        assert 0 <= offsets[need.name] <= total - taken(need)


@pytest.mark.slow
@given(programs())
def test_the_block_is_no_larger_than_all_results_and_no_smaller_than_what_lives_at_once(needs):
    _, total = place(needs)
    assert total <= sum(map(taken, needs))
    for item in range(20):
        living = [need for need in needs if need.first <= item <= need.last]
        written_over = {name for need in living if need.first == item for name in need.over}
        assert total >= sum(taken(need) for need in living if need.name not in written_over)


@pytest.mark.slow
@given(programs())
def test_what_is_written_over_another_lies_exactly_there(needs):
    """Or not at all: half of a tensor would be lost before it is read."""
    offsets, _ = place(needs)
    for one, other in combinations(needs, 2):
        if one.last == other.first and one.first < other.first:
            a, b = offsets[one.name], offsets[other.name]
            assert a == b or a + taken(one) <= b or b + taken(other) <= a


def test_lines_are_those_of_a_cache():
    assert ALIGNMENT == 64


def test_nothing_takes_no_memory():
    assert place([]) == ({}, 0)


def test_a_chain_takes_two_places():
    offsets, total = place(CHAIN)
    assert total == 2 * 128
    assert [offsets[need.name] for need in CHAIN] == [0, 128] * 3


def test_a_result_takes_the_place_of_what_it_adds():
    a, b = Need("a", 64, 0, 2), Need("b", 64, 1, 2)
    for over, at in ((("a",), 0), (("b",), 64), (("a", "b"), 0), ((), 128)):
        offsets, total = place([a, b, Need("c", 64, 2, 3, over)])
        assert offsets["c"] == at
        assert total == max(128, at + 64)


def test_but_not_of_what_is_needed_later_or_has_another_size():
    later, smaller = Need("a", 64, 0, 3), Need("b", 60, 1, 2)
    offsets, _ = place([later, smaller, Need("c", 64, 2, 4, ("a", "b"))])
    assert offsets["c"] == 128


def test_two_results_of_one_item_are_never_written_over_the_same():
    a = Need("a", 64, 0, 1)
    both = [Need("b", 64, 1, 2, ("a",)), Need("c", 64, 1, 2, ("a",))]
    offsets, _ = place([a, *both])
    assert (offsets["b"], offsets["c"]) == (0, 64)


def test_the_lowest_gap_that_is_large_enough_is_taken():
    needs = [
        Need("a", 64, 0, 0),
        Need("b", 64, 0, 9),
        Need("c", 128, 0, 0),
        Need("d", 64, 0, 9),
        Need("e", 128, 1, 9),
        Need("f", 64, 1, 9),
        Need("g", 64, 1, 9),
    ]
    offsets, total = place(needs)
    assert [offsets[name] for name in "abcdefg"] == [0, 64, 128, 256, 128, 0, 320]
    assert total == 384


def test_a_result_of_no_bytes_has_a_place():
    offsets, total = place([Need("a", 0, 0, 1), Need("b", 0, 1, 2)])
    assert offsets == {"a": 0, "b": 64}
    assert total == 128
