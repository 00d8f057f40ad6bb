"""Ranking, budgets kept, prefixes, the front: laws and borders."""

import math
from itertools import combinations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from irbin.analysis.budget import (
    check_reachable,
    evenly,
    front,
    longest,
    parse_budget,
    parse_bytes,
    rank,
    spend,
)
from irbin.analysis.choices import choices
from irbin.errors import UsageError
from irbin.records.analysis import Budget
from irbin.records.plan import PlanOptions
from tests.analysis.conftest import found

LAYERS = ("a.0.conv1", "a.0.conv2", "a.1.conv1", "b.0.conv1", "b.0.conv2")


class TestRank:
    def test_least_loss_for_a_byte_comes_first(self):
        layers = [found("x", 0.2, 100), found("y", 0.3, 1000), found("z", 0.1, 100)]
        assert [x.name for x in rank(layers, "bytes")] == ["y", "z", "x"]

    def test_least_loss_for_time_comes_first_where_time_counts(self):
        layers = [found("x", 0.2, us=100), found("y", 0.1, us=10), found("z", 0.1, us=-1)]
        assert [x.name for x in rank(layers, "time")] == ["x", "y", "z"]

    def test_a_loss_that_fell_is_none_and_the_larger_saving_wins(self):
        layers = [found("x", -0.9, 10), found("y", -0.01, 20), found("z", 0, 30)]
        assert [x.name for x in rank(layers, "bytes")] == ["z", "y", "x"]

    def test_what_is_not_finite_or_saves_nothing_comes_last(self):
        layers = [found("nan", math.nan), found("none", 0.5, 0), found("much", 9.0)]
        assert [x.name for x in rank(layers, "bytes")] == ["much", "none", "nan"]


class TestReachable:
    @pytest.mark.parametrize(
        ("budget", "message"),
        [
            (
                Budget("bytes", 1000),
                "`max_bytes=`: expected at least 16,496 bytes, which every useful layer binary "
                "gives, got 1,000 bytes",
            ),
            (
                Budget("bytes", math.nan),
                "`max_bytes=`: expected at least 16,496 bytes, which every useful layer binary "
                "gives, got nan bytes",
            ),
            (
                Budget("bytes", 10**9),
                "`max_bytes=`: expected less than 114,592 bytes, which the float network has, "
                "got 1,000,000,000 bytes: nothing needs to be binary",
            ),
            (Budget("drop", -1), "`max_drop=`: expected points ≥ 0, got -1"),
            (Budget("drop", math.nan), "`max_drop=`: expected points ≥ 0, got nan"),
        ],
    )
    def test_a_budget_that_cannot_be_meant_is_told(self, space, budget, message):
        with pytest.raises(UsageError) as error:
            check_reachable(budget, space)
        assert str(error.value) == message

    def test_the_smallest_size_named_is_reached(self, space):
        check_reachable(Budget("bytes", space.packed_bytes(LAYERS)), space)
        with pytest.raises(UsageError):
            check_reachable(Budget("bytes", space.packed_bytes(LAYERS) - 1), space)

    def test_the_smallest_time_named_is_reached(self, space):
        with pytest.raises(UsageError, match=r"expected at least (\S+) ms") as error:
            check_reachable(Budget("latency", 0), space)
        named = float(str(error.value).split("at least ")[1].split()[0])
        check_reachable(Budget("latency", named), space)


def test_weights_alone_save_time_down_to_their_least(graph):
    """Kernels look sums of channels up."""
    space = choices(graph, PlanOptions(bits="1w32a"), "layer")
    check_reachable(Budget("latency", 1e3 * space.seconds(()) - 1e-6), space)
    least = min(space.seconds(names) for names in ((), *((n,) for n in space.groups), space.groups))
    with pytest.raises(UsageError, match="`max_latency=`: expected at least"):
        check_reachable(Budget("latency", 0.5e3 * least), space)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    order=st.permutations(LAYERS), share=st.floats(0, 1), kind=st.sampled_from(["bytes", "latency"])
)
def test_a_proposal_keeps_its_budget_and_has_no_layer_too_many(space, order, share, kind):
    cost = space.packed_bytes if kind == "bytes" else lambda names: 1e3 * space.seconds(names)
    smallest, largest = cost(LAYERS), cost(())
    budget = Budget(kind, smallest + share * (largest - smallest) * 0.99)
    chosen = spend(budget, space, order)
    assert cost(chosen) <= budget.limit
    if len(chosen) > 1:
        assert all(cost(c) > budget.limit for c in combinations(chosen, len(chosen) - 1))


@given(n=st.integers(0, 40), data=st.data())
def test_the_longest_is_found_with_few_questions(n, data):
    true = data.draw(st.integers(0, n))
    known = data.draw(st.sets(st.integers(1, n or 1), max_size=3)) if n else set()
    asked: list[int] = []

    def fits(k: int) -> bool:
        asked.append(k)
        return k <= true

    assert longest(n, fits, known) == true
    assert all(1 <= k <= n for k in asked)
    assert len(asked) <= len(known) + math.ceil(math.log2(n + 1))


@pytest.mark.parametrize(
    ("saved", "n_points", "lengths"),
    [
        ([1, 1, 1, 1], 4, (1, 2, 3, 4)),
        ([1, 1, 1, 1], 2, (2, 4)),
        ([1, 1, 1, 1], 1, (4,)),
        ([1, 1, 1, 1], 99, (1, 2, 3, 4)),
        ([8, 1, 1], 5, (1, 3)),
        ([0, 0], 3, (2,)),
        ([0.1] * 10, 10, tuple(range(1, 11))),
    ],
)
def test_points_are_even_in_what_is_saved(saved, n_points, lengths):
    assert evenly(saved, n_points)[-1] == len(saved)
    assert len(evenly(saved, n_points)) <= max(n_points, 1)
    assert evenly(saved, n_points) == lengths


def test_the_front_is_what_nothing_beats():
    points = [(10, 90.0), (8, 91.0), (6, 70.0), (6, 60.0), (5, math.nan), (4, 70.0), (4, 70.0)]
    assert front(points) == {1, 5, 6}
    assert front([]) == frozenset()


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("250000", 250_000),
        ("4MB", 4_000_000),
        ("4 mb", 4_000_000),
        ("4.2MB", 4_200_000),
        ("300k", 300_000),
        ("1MiB", 2**20),
        ("2GB", 2 * 10**9),
        ("7B", 7),
    ],
)
def test_sizes_are_read_as_people_write_them(text: str, n_bytes: int) -> None:
    assert parse_bytes(text, "--max-bytes") == n_bytes


@pytest.mark.parametrize("text", ["", "MB", "-4MB", "4TB", "4 iB", "1e6", "nan", "4,2MB"])
def test_what_is_no_size_is_told(text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_bytes(text, "--max-bytes")
    assert str(error.value) == (
        f"`--max-bytes`: expected a size like 4MB, 300kB or 250000, got `{text}`"
    )


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("size=4MB", Budget("bytes", 4_000_000)),
        ("size = 1MiB", Budget("bytes", 2**20)),
        ("latency=5", Budget("latency", 5)),
        ("latency=0.5ms", Budget("latency", 0.5)),
        ("drop=0", Budget("drop", 0)),
        ("drop=1e-1", Budget("drop", 0.1)),
    ],
)
def test_a_budget_is_read_as_it_is_typed(text: str, budget: Budget) -> None:
    assert parse_budget(text) == budget


@pytest.mark.parametrize(
    "text",
    ["", "size", "size=", "4MB", "bytes=4", "drop=nan", "drop=-1", "latency=inf", "latency=5s"],
)
def test_what_is_no_budget_is_told(text: str) -> None:
    with pytest.raises(UsageError, match=r"^`budget`: expected [^\n]*, got `"):
        parse_budget(text)


def test_an_argument_of_another_name_is_told_by_it(space) -> None:
    with pytest.raises(UsageError, match=r"^`budget=`: expected at least 16,496 bytes"):
        check_reachable(Budget("bytes", 1000), space, "budget=")
