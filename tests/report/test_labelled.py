from __future__ import annotations

from irbin.records.prediction import Answer, LabelledPrediction, Prediction
from irbin.report.labelled import labelled_columns, labelled_rows

CAT, DOG = Answer(0, "cat", 0.75), Answer(1, "dog", 0.25)


def told(*best: Answer, label: int = 0, image: str = "a.png") -> LabelledPrediction:
    return LabelledPrediction(Prediction(image, best), label, ("cat", "dog")[label])


def test_networks_stand_side_by_side(evaluation) -> None:
    networks = [
        evaluation(name="f", kind="float", answers=(told(CAT, DOG), told(DOG, label=1))),
        evaluation(name="b", kind="binary", answers=(told(DOG, CAT), told(DOG, label=1))),
    ]
    columns, rows = labelled_columns(networks), list(labelled_rows(networks))
    assert list(columns) == [
        *("file", "index", "class"),
        *("float_right", "float_class_1", "float_probability_1"),
        *("float_class_2", "float_probability_2"),
        *("binary_right", "binary_class_1", "binary_probability_1"),
        *("binary_class_2", "binary_probability_2"),
        "float_right_binary_wrong",
    ]
    assert [row["float_right_binary_wrong"] for row in rows] == [True, False]
    assert [row["binary_class_1"] for row in rows] == ["dog", "dog"]
    for row in rows:
        assert set(row) <= set(columns)
        assert all(isinstance(value, columns[name]) for name, value in row.items())


def test_without_a_float_network_nothing_is_compared(evaluation) -> None:
    networks = [evaluation(kind="packed", answers=(told(CAT),))]
    assert "float_right_binary_wrong" not in labelled_columns(networks)
    assert next(labelled_rows(networks))["packed_right"] is True


def test_an_answer_that_is_none_is_wrong(evaluation) -> None:
    nothing = LabelledPrediction(Prediction("a.png", (), "no number"), 0, "cat")
    (row,) = labelled_rows([evaluation(answers=(nothing,))])
    assert row == {"file": "a.png", "index": 0, "class": "cat", "float_right": False}
