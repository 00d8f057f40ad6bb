"""Predictions as lines, as rows of a table in a file, and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from irbin.records.json import JsonValue
from irbin.records.prediction import Prediction
from irbin.report.units import percent


def prediction_line(prediction: Prediction) -> str:
    """`cat.png: tabby 93.1 %, tiger cat 4.20 %`; why not, where there is no answer."""
    if prediction.error:
        return f"{prediction.image}: no answer ({prediction.error})"
    told = ", ".join(f"{one.name} {percent(100 * one.probability)}" for one in prediction.best)
    return f"{prediction.image}: {told}"


def prediction_columns(topk: int) -> dict[str, type[Any]]:
    """Columns of a file and what stands in them; the best class's first."""
    columns: dict[str, type[Any]] = {"file": str}
    for place in range(1, topk + 1):
        columns |= {f"class_{place}": str, f"index_{place}": int, f"probability_{place}": float}
    return {**columns, "error": str}


def prediction_row(prediction: Prediction) -> dict[str, Any]:
    """By column; columns of classes that there are not are missing."""
    row: dict[str, Any] = {"file": prediction.image, "error": prediction.error or None}
    for place, one in enumerate(prediction.best, 1):
        row[f"class_{place}"] = one.name
        row[f"index_{place}"] = one.index
        row[f"probability_{place}"] = one.probability
    return row


def prediction_json(prediction: Prediction) -> Mapping[str, JsonValue]:
    """`{"file": …, "best": [{"class": …, "index": …, "probability": …}], "error": null}`."""
    return {
        "file": prediction.image,
        "best": [
            {"class": one.name, "index": one.index, "probability": one.probability}
            for one in prediction.best
        ],
        "error": prediction.error or None,
    }


def damaged_line(damaged: Sequence[Prediction], n_images: int, most: int = 5) -> str:
    """How many had no answer, the first of them named."""
    named = "; ".join(f"{one.image}: {one.error}" for one in damaged[:most])
    rest = f"; and {len(damaged) - most:,} more" if len(damaged) > most else ""
    return f"no answer for {len(damaged):,} of {n_images:,} images ({named}{rest})"
