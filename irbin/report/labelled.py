"""Every image of an evaluation as a row: its class, and what each network says of it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

from irbin.records.results import Evaluation
from irbin.report.evaluation import labels_of


def labelled_columns(evaluations: Sequence[Evaluation]) -> dict[str, type[Any]]:
    """Columns of a file, and what stands in them.

    Of the image `file`, `index` and `class`; of each network `NETWORK_right`, and for each of its
    best classes `NETWORK_class_1`, `NETWORK_probability_1`, …; last, where a float network stands
    beside another, `float_right_binary_wrong`: of the first float one and the last other.
    """
    columns: dict[str, type[Any]] = {"file": str, "index": int, "class": str}
    for name, evaluation in zip(labels_of(evaluations), evaluations, strict=True):
        columns[f"{name}_right"] = bool
        for place in range(1, _depth(evaluation) + 1):
            columns |= {f"{name}_class_{place}": str, f"{name}_probability_{place}": float}
    if compared_pair(evaluations) is not None:
        columns["float_right_binary_wrong"] = bool
    return columns


def labelled_rows(evaluations: Sequence[Evaluation]) -> Iterator[dict[str, Any]]:
    """A row an image, in the order of the data set."""
    names, compared = labels_of(evaluations), compared_pair(evaluations)
    for images in zip(*(evaluation.answers or () for evaluation in evaluations), strict=True):
        first = images[0]
        row: dict[str, Any] = {"file": first.told.image, "index": first.label}
        row["class"] = first.label_name
        for name, image in zip(names, images, strict=True):
            row[f"{name}_right"] = image.is_right
            for place, one in enumerate(image.told.best, 1):
                row[f"{name}_class_{place}"] = one.name
                row[f"{name}_probability_{place}"] = one.probability
        if compared is not None:
            before, after = compared
            row["float_right_binary_wrong"] = images[before].is_right and not images[after].is_right
        yield row


def _depth(evaluation: Evaluation) -> int:
    return max((len(image.told.best) for image in evaluation.answers or ()), default=0)


def labelled_csv(evaluations: Sequence[Evaluation]) -> str:
    """All rows under their heads."""
    out = io.StringIO()
    writer = csv.DictWriter(
        out, list(labelled_columns(evaluations)), restval="", lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(labelled_rows(evaluations))
    return out.getvalue()


def compared_pair(evaluations: Sequence[Evaluation]) -> tuple[int, int] | None:
    """Numbers of the first float network and the last other one; None where one is missing."""
    floats = [i for i, e in enumerate(evaluations) if e.kind == "float"]
    others = [i for i, e in enumerate(evaluations) if e.kind != "float"]
    return (floats[0], others[-1]) if floats and others else None
