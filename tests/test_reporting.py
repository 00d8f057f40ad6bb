from __future__ import annotations

import csv
import os
import re
from dataclasses import replace

import pytest

from irbin.errors import UsageError
from irbin.records.options import DataOptions, Preprocessing
from irbin.records.prediction import Answer, LabelledPrediction, Prediction
from irbin.records.results import Evaluation
from irbin.reporting import check_evaluation_report, images_file, write_evaluation_report


@pytest.fixture
def evaluation(pictures28) -> Evaluation:
    names = ("bars", "dots", "plain")
    files = sorted((pictures28 / "val").rglob("*.png"))
    given = tuple(
        LabelledPrediction(
            Prediction(str(file), (Answer(0, "bars", 0.9),)), names.index(file.parent.name), "x"
        )
        for file in files
    )
    seen = Preprocessing((3, 28, 28))
    return Evaluation("n", "float", 18, 33.3, 100.0, 1.0, {}, 1.0, 10, 40, seen, answers=given)


def test_a_page_and_its_images_are_written(evaluation, pictures28, tmp_path) -> None:
    path = tmp_path / "a b.html"
    for with_images in (True, False):
        check_evaluation_report(path, "--report")
        data = DataOptions(data_dir=str(pictures28), workers=0)
        write_evaluation_report(path, [evaluation], {}, data, with_images=with_images)
        assert path.read_text().count("<img") == 12 * with_images
    rows = list(csv.DictReader((tmp_path / "a b-images.csv").read_text().splitlines()))
    assert len(rows) == 18
    assert 'href="a%20b-images.csv"' in path.read_text()
    assert sorted(os.listdir(tmp_path)) == ["a b-images.csv", "a b.html"]


def test_a_file_name_that_is_no_text_is_kept(evaluation, pictures28, tmp_path) -> None:
    odd = replace(evaluation.answers[0].told, image="\udcff<b>.png")
    answers = (replace(evaluation.answers[0], told=odd), *evaluation.answers[1:])
    data = DataOptions(data_dir=str(pictures28), workers=0)
    path = tmp_path / "r.html"
    write_evaluation_report(path, [replace(evaluation, answers=answers)], {}, data)
    assert b"\xff<b>.png" in images_file(path).read_bytes()


def test_a_table_of_the_users_is_not_replaced(tmp_path) -> None:
    (tmp_path / "r-images.csv").write_text("name,price\n")
    message = (
        f"`--report`: {tmp_path}/r-images.csv exists and is no table of images of irbin's, so it "
        "stays; choose another file"
    )
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        check_evaluation_report(tmp_path / "r.html", "--report")
