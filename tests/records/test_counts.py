from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irbin.records.counts import Bin, Counts, Z, counts_json, difference_margin, margin

IMAGES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=60)


def counted(images: list[tuple[int, int]]) -> Counts:
    pairs = tuple((*pair, images.count(pair)) for pair in sorted(set(images)))
    return Counts(("a", "b", "c", "d"), pairs, ())


@given(IMAGES)
def test_figures_are_their_definitions(images: list[tuple[int, int]]) -> None:
    figures = {one.name: one for one in counted(images).figures()}
    for i, name in enumerate("abcd"):
        shown = [answer for label, answer in images if label == i]
        answered = [label for label, answer in images if answer == i]
        if not shown and not answered:
            assert name not in figures
            continue
        one, right = figures[name], shown.count(i)
        assert (one.n_images, one.n_answers) == (len(shown), len(answered))
        assert math.isnan(one.recall) if not shown else one.recall == 100 * right / len(shown)
        if answered:
            assert one.precision == 100 * right / len(answered)
        if right:
            mean = 2 / (1 / one.precision + 1 / one.recall)
            assert one.f1 == pytest.approx(mean)


@given(IMAGES)
def test_a_class_is_unseen_or_has_images(images: list[tuple[int, int]]) -> None:
    shown = {"abcd"[label] for label, _ in images}
    assert list(counted(images).unseen()) == [name for name in "abcd" if name not in shown]


@given(IMAGES)
def test_confusions_are_wrong_answers_most_frequent_first(images: list[tuple[int, int]]) -> None:
    found = counted(images).confusions()
    assert all(one != other for one, other, _ in found)
    assert [n for *_, n in found] == sorted((n for *_, n in found), reverse=True)
    assert sum(n for *_, n in found) == sum(label != answer for label, answer in images)


def test_calibration_error_is_the_mean_distance() -> None:
    bins = (Bin(10, 0.5, 0.6), Bin(30, 0.9, 0.8))
    assert Counts((), (), bins).calibration_error == pytest.approx(10.0)
    assert math.isnan(Counts((), (), ()).calibration_error)


@pytest.mark.parametrize(
    ("percent", "n", "low", "high"),
    [  # Wilson's interval, by its own formula: R's prop.test(x, n, correct = FALSE)
        (81.0, 263, 75.8, 85.3),
        (0.0, 20, 0.0, 16.1),
        (100.0, 20, 83.9, 100.0),
        (50.0, 10, 23.7, 76.3),
    ],
)
def test_margin_is_half_of_wilsons_interval(
    percent: float, n: int, low: float, high: float
) -> None:
    assert 2 * margin(percent, n) == pytest.approx(high - low, abs=0.15)


def test_margins_shrink_with_the_root_of_images() -> None:
    assert margin(86.0, 40_000) == pytest.approx(margin(86.0, 10_000) / 2, rel=1e-3)


def test_json_is_plain() -> None:
    value = counts_json(Counts(("a", "b"), ((0, 0, 2), (0, 1, 1)), (Bin(3, 0.5, 0.5),)))
    assert json.loads(json.dumps(value))["confusion"][1] == {
        "class": "a",
        "answer": "b",
        "images": 1,
    }
    assert [one["name"] for one in value["classes"]] == ["a", "b"]


def test_the_margin_of_a_difference_is_that_of_single_differences() -> None:
    """Of +1, −1 and 0 an image, the standard error of the mean times `Z`."""
    for gained, lost, n in ((0, 6, 30), (53, 11, 1000), (5, 5, 10), (1, 0, 1), (0, 0, 9)):
        each = np.array([1.0] * gained + [-1.0] * lost + [0.0] * (n - gained - lost))
        wanted = 100 * Z * each.std() / math.sqrt(n)
        assert difference_margin(gained, lost, n) == pytest.approx(wanted)
