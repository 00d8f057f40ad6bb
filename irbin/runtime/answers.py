"""Logits become classes and probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from irbin.errors import UsageError
from irbin.messages import counted
from irbin.records.given import check_whole
from irbin.records.prediction import TOP, Answer, Prediction
from irbin.runtime.arrays import Array


def answers(
    logits: Array, images: Sequence[str], names: Sequence[str] | None, topk: int = TOP
) -> list[Prediction]:
    """The most probable classes of each image.

    Args:
        logits: float (batch, classes).
        images: what each is called.
        names: of the classes; None counts them.
        topk: how many classes; all where there are fewer. Of equal ones the first come first.

    Raises:
        UsageError: these are no logits of a classifier, or of another one than the names are of.
    """
    check_whole("topk", topk, least=1)
    if logits.ndim != 2 or logits.shape[1] == 0:
        raise UsageError(
            f"expected a classifier with outputs (batch, classes), got {logits.shape}: a backbone "
            "has features, no classes"
        )
    n_classes = logits.shape[1]
    if names is not None and len(names) != n_classes:
        raise UsageError(
            f"expected a name for each of {counted(n_classes, 'class')}, got {len(names)}"
        )
    shown = list(names) if names is not None else [str(i) for i in range(n_classes)]
    made = []
    for image, row in zip(images, logits.astype(np.float64), strict=True):
        if not np.isfinite(row).all():
            made.append(Prediction(image, (), "the network's answers are no finite numbers"))
            continue
        odds = np.exp(row - row.max())
        shares = odds / odds.sum()
        best = np.argsort(-row, kind="stable")[:topk]
        made.append(
            Prediction(image, tuple(Answer(int(i), shown[i], float(shares[i])) for i in best))
        )
    return made
