from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from irbin.errors import UsageError
from irbin.runtime.answers import answers

NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(st.lists(NUMBERS, min_size=1, max_size=9), st.integers(1, 12))
def test_probabilities_are_the_softmax_best_first(row: list[float], topk: int) -> None:
    (told,) = answers(np.array([row], np.float32), ["a"], None, topk)
    wanted = torch.tensor(row, dtype=torch.float64).softmax(0)
    assert len(told.best) == min(topk, len(row))
    assert all(one.probability == pytest.approx(wanted[one.index].item()) for one in told.best)
    keys = [(-row[one.index], one.index) for one in told.best]
    assert keys == sorted(keys)
    assert keys == sorted((-value, i) for i, value in enumerate(row))[:topk]


def test_classes_are_called_by_their_names_or_their_numbers() -> None:
    logits = np.array([[0.0, 2.0]], np.float32)
    assert answers(logits, ["a"], ("cat", "dog"), 1)[0].best[0].name == "dog"
    assert answers(logits, ["a"], None, 1)[0].best[0].name == "1"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_no_answer(bad: float) -> None:
    told = answers(np.array([[0.0, bad], [1.0, 0.0]], np.float32), ["a", "b"], None)
    assert told[0].best == ()
    assert "no finite numbers" in told[0].error
    assert told[1].best[0].index == 0


def test_no_images_have_no_answers() -> None:
    assert answers(np.empty((0, 3), np.float32), [], None) == []


@pytest.mark.parametrize("shape", [(1, 0), (1, 2, 3), (2,)])
def test_features_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="expected a classifier"):
        answers(np.zeros(shape, np.float32), ["a"], None)


def test_names_of_another_network_are_refused() -> None:
    with pytest.raises(UsageError, match="expected a name for each of 2 classes, got 3"):
        answers(np.zeros((1, 2), np.float32), ["a"], ("x", "y", "z"))


@pytest.mark.parametrize("topk", [0, -1, True, 1.5])
def test_odd_numbers_of_classes_are_refused(topk: object) -> None:
    with pytest.raises(UsageError, match="`topk`: expected a whole number"):
        answers(np.zeros((1, 2), np.float32), ["a"], None, topk)  # type: ignore[arg-type]
