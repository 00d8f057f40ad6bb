from __future__ import annotations

from irbin.records.prediction import Answer, Prediction
from irbin.report.prediction import (
    damaged_line,
    prediction_columns,
    prediction_json,
    prediction_line,
    prediction_row,
)

CAT = Prediction("a.png", (Answer(3, "cat", 0.9996), Answer(5, "dog", 0.0004)))
BAD = Prediction("b.png", (), "cannot be read")


def test_a_line_says_file_classes_and_shares() -> None:
    assert prediction_line(CAT) == "a.png: cat 99.96 %, dog 0.04 %"
    assert prediction_line(BAD) == "b.png: no answer (cannot be read)"


def test_every_row_fits_the_columns() -> None:
    columns = prediction_columns(2)
    assert list(columns)[:4] == ["file", "class_1", "index_1", "probability_1"]
    for prediction in (CAT, BAD):
        row = prediction_row(prediction)
        assert set(row) <= set(columns)
        assert all(isinstance(v, columns[name]) for name, v in row.items() if v is not None)
    assert prediction_row(BAD) == {"file": "b.png", "error": "cannot be read"}


def test_json_has_a_list_of_classes() -> None:
    assert prediction_json(CAT)["best"][1] == {"class": "dog", "index": 5, "probability": 0.0004}
    assert prediction_json(BAD) == {"file": "b.png", "best": [], "error": "cannot be read"}


def test_the_first_damaged_images_are_named() -> None:
    assert damaged_line([BAD], 3) == "no answer for 1 of 3 images (b.png: cannot be read)"
    assert damaged_line([BAD] * 1002, 2000, most=1).endswith("; and 1,001 more)")
