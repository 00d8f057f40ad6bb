from __future__ import annotations

import numpy as np
import pytest
import torch

from irbin.errors import DataError
from irbin.evaluation import tally as tallies
from irbin.evaluation.tally import Tally, gathered, start, sum_type
from irbin.processes import ALONE

CPU = torch.device("cpu")


def drawn(n: int, n_classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(n)
    logits = torch.randn(n, n_classes, generator=generator)
    return logits, torch.randint(n_classes, (n,), generator=generator)


@pytest.mark.parametrize("n_classes", [1, 2, 5, 6, 33])
@pytest.mark.parametrize("batches", [[1], [7, 1], [31, 33, 64]])
def test_counts_are_those_of_single_images(n_classes: int, batches: list[int]) -> None:
    tally = Tally(n_classes, CPU)
    matrix = np.zeros((n_classes, n_classes), int)
    sure, right = [], []
    for n in batches:
        logits, labels = drawn(n, n_classes)
        tally.add(logits, labels)
        for row, label in zip(logits.double().softmax(1), labels.tolist(), strict=True):
            answer = int(row.argmax())
            matrix[label, answer] += 1
            sure.append(float(row.max()))
            right.append(answer == label)
    counts = tally.counts(tuple("abcdefgh"[: n_classes - 1]))
    assert counts is not None
    assert len(counts.class_names) == max(n_classes, 0)
    found = np.zeros_like(matrix)
    for label, answer, n in counts.pairs:
        found[label, answer] = n
    assert (found == matrix).all()
    assert int(tally.right.sum()) == sum(right)
    assert sum(one.n_images for one in counts.bins) == len(sure)
    assert sum(one.n_images * one.confidence for one in counts.bins) == pytest.approx(sum(sure))
    assert sum(one.n_images * one.accuracy for one in counts.bins) == pytest.approx(sum(right))
    for one in counts.bins:
        assert 0 < one.confidence <= 1


def test_with_thousands_of_classes_pairs_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tallies, "MAX_COUNTED", 4)
    for n_classes in (4, 5):
        tally = Tally(n_classes, CPU)
        tally.add(*drawn(9, n_classes))
        assert (tally.counts(()) is None) == (n_classes > 4)


def test_answers_that_are_no_numbers_are_counted_without_confidence() -> None:
    tally = Tally(3, CPU)
    tally.add(torch.full((2, 3), torch.nan), torch.tensor([0, 1]))
    counts = tally.counts(())
    assert counts is not None
    assert [(one.n_images, one.confidence) for one in counts.bins] == [(2, 0.0)]


def test_what_is_no_classifier_is_refused() -> None:
    with pytest.raises(DataError, match="expected a classifier"):
        start(torch.zeros(2, 3, 4, 4), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(DataError, match="labels below the network's 3 outputs, got 3"):
        start(torch.zeros(2, 3), torch.tensor([0, 3]))
    with pytest.raises(DataError, match="got none"):
        gathered(None, ALONE)


def test_sums_are_float64_where_there_is_one() -> None:
    with torch.device("meta"):
        assert sum_type(torch.device("mps")) == torch.float32
        assert sum_type(CPU) == torch.float64
