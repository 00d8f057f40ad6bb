"""How often each class was taken for which, and how sure of it the network was; torch-free."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

N_BINS = 15
"""Of confidence, as in Guo et al., "On Calibration of Modern Neural Networks", ICML 2017."""
Z = 1.959964
"""Standard deviations on either side that hold 95 % of a normal distribution."""


@dataclass(frozen=True)
class ClassFigures:
    """Of one class. Made by `Counts.figures`, read by reports."""

    name: str
    """Of the class."""
    n_images: int
    """That show it."""
    n_answers: int
    """That were taken for it."""
    precision: float
    """Per cent of the answers that were right; nan where it was never answered."""
    recall: float
    """Per cent of its images that were answered right, its top-1; nan where it has no images."""
    f1: float
    """Harmonic mean of the two, per cent: 2·right / (images + answers)."""


@dataclass(frozen=True)
class Bin:
    """Answers of about the same confidence. Made by `evaluation.tally`, read by reports."""

    n_images: int
    """Whose answer's probability lies in this fifteenth of 0 to 1."""
    confidence: float
    """Mean probability of these answers, 0 to 1."""
    accuracy: float
    """Share of them that was right, 0 to 1."""


@dataclass(frozen=True)
class Counts:
    """One count of images by class and answer. Made by `evaluation.tally`, read by reports."""

    class_names: tuple[str, ...]
    """In the order of the outputs."""
    pairs: tuple[tuple[int, int, int], ...]
    """(class, answer, images) where there were images, in order."""
    bins: tuple[Bin, ...]
    """By confidence, from 0 to 1, without empty ones."""

    @property
    def calibration_error(self) -> float:
        """Expected calibration error, per cent: |accuracy − confidence| weighted by images."""
        n_images = sum(one.n_images for one in self.bins)
        off = sum(one.n_images * abs(one.accuracy - one.confidence) for one in self.bins)
        return 100 * off / n_images if n_images else math.nan

    def unseen(self) -> tuple[str, ...]:
        """Classes without images, in order."""
        seen = {label for label, _, _ in self.pairs}
        return tuple(name for i, name in enumerate(self.class_names) if i not in seen)

    def figures(self) -> tuple[ClassFigures, ...]:
        """Of every class that has images or was answered, in order."""
        images: dict[int, int] = defaultdict(int)
        answers: dict[int, int] = defaultdict(int)
        right: dict[int, int] = defaultdict(int)
        for label, answer, n in self.pairs:
            images[label] += n
            answers[answer] += n
            right[label] += n if label == answer else 0
        return tuple(
            ClassFigures(
                self.class_names[i],
                images[i],
                answers[i],
                _share(right[i], answers[i]),
                _share(right[i], images[i]),
                _share(2 * right[i], images[i] + answers[i]),
            )
            for i in sorted({*images, *answers})
        )

    def confusions(self) -> list[tuple[str, str, int]]:
        """(class, answer, images) of wrong answers, the most frequent first."""
        wrong = [(label, answer, n) for label, answer, n in self.pairs if label != answer]
        wrong.sort(key=lambda pair: -pair[2])
        names = self.class_names
        return [(names[label], names[answer], n) for label, answer, n in wrong]


def counts_json(counts: Counts) -> dict[str, Any]:
    """As plain values: per-class figures, the confusion counts, calibration."""
    return {
        "classes": [vars(one) for one in counts.figures()],
        "confusion": [
            {"class": counts.class_names[label], "answer": counts.class_names[answer], "images": n}
            for label, answer, n in counts.pairs
        ],
        "calibration_error": counts.calibration_error,
        "calibration": [vars(one) for one in counts.bins],
    }


def margin(percent: float, n_images: int) -> float:
    """Half of the Wilson interval that holds 95 %, in points, for a share of so many images.

    Raises:
        ZeroDivisionError: of no images.
    """
    share = percent / 100
    spread = share * (1 - share) / n_images + Z**2 / (4 * n_images**2)
    return 100 * Z * math.sqrt(spread) / (1 + Z**2 / n_images)


def difference_margin(n_gained: int, n_lost: int, n_images: int) -> float:
    """Half of the interval that holds 95 %, in points, for the difference of two networks' top-1.

    Both answered the same images, so only those on which one of them is right alone count
    (McNemar, "Note on the sampling error of the difference between correlated proportions",
    Psychometrika 12, 1947): the variance of (gained − lost) / n.

    Args:
        n_gained: images that the second network alone answers right.
        n_lost: images that the first one alone does.
        n_images: in all, at least one.
    """
    n_apart, change = n_gained + n_lost, n_gained - n_lost
    return 100 * Z * math.sqrt(max(n_apart - change**2 / n_images, 0)) / n_images


def _share(part: int, whole: int) -> float:
    return 100 * part / whole if whole else math.nan
