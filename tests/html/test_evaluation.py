from __future__ import annotations

import math
from dataclasses import replace

import pytest

from irbin.html.evaluation import evaluation_page, wanted_images
from irbin.html.page import html
from irbin.html.verdict import subject_of
from irbin.records.counts import Counts
from tests.html.conftest import SCRIPT, N, evaluated, read

SECTIONS = [
    "Verdict",
    "Networks side by side",
    "Packed = trained?",
    "Confusion",
    "By class",
    "Calibration",
    "Most confident wrong",
    "Float right, binary wrong",
    "All images",
]


@pytest.fixture
def page(evaluations, agreements, pixels):
    return evaluation_page(evaluations, agreements, pixels, "r-images.csv")


def text_of(section) -> str:
    return repr(section.blocks)


def named(page, title: str):
    (found,) = (one for one in page.sections if one.title == title)
    return found


def test_the_sections_are_those_of_the_docs_in_order(page) -> None:
    reader = read(html(page))
    assert reader.words("h2") == SECTIONS
    assert [one["href"] for one in reader.all("a")[1 : 1 + len(SECTIONS)]] == [
        f"#s{i}" for i in range(1, len(SECTIONS) + 1)
    ]


def test_the_same_records_give_the_same_bytes(page) -> None:
    assert html(page) == html(page)


def test_a_page_with_all_its_images_is_small(page) -> None:
    assert 20_000 < len(html(page).encode()) < 200_000


def test_names_cannot_become_tags(page) -> None:
    text = html(page)
    read(text)
    assert SCRIPT not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "{{ 7 * 7 }}" in text  # no template either
    assert ">$x$" in text  # nor mathematics


def test_the_verdict_weighs_the_difference_against_chance(evaluations, page) -> None:
    (words,) = named(page, "Verdict").blocks
    assert words.text == (
        "script> (packed) answers 80.00 % ± 13.90 of 30 images right: 20.00 ± 14.31 points "
        "fewer than float (100.00 ± 5.68), in 100 kB instead of 1.20 MB (12.0× smaller), at 9.00× "
        "its images a second."
    )


def test_a_difference_within_chance_is_called_none(evaluations) -> None:
    near = evaluated("near", "packed", "1" * (N - 1) + "0", 100_000, 9000)
    page = evaluation_page((evaluations[0], near), {}, None, None)
    assert "no difference from float that so many images can show (−3.33 ± 6.42" in text_of(
        page.sections[0]
    )


def test_one_network_alone_has_a_page(evaluations) -> None:
    page = evaluation_page(evaluations[2:], {}, None, None)
    read(html(page))
    assert "Not compared" in text_of(named(page, "Packed = trained?"))
    assert "`irbin eval FLOAT PACKED`" in text_of(named(page, "Float right, binary wrong"))
    assert "12.0× smaller than as float32" in text_of(page.sections[0])


def test_the_subject_is_the_last_packed_network(evaluations) -> None:
    assert subject_of(evaluations) == 2
    assert subject_of(evaluations[::-1]) == 0
    assert subject_of(evaluations[:2]) == 1


def test_wanted_images_are_those_that_are_shown(evaluations, page) -> None:
    wrong = [i for i in range(N) if i % 5 == 2]
    assert wanted_images(evaluations) == wrong
    (pictures,) = named(page, "Most confident wrong").blocks
    assert len(pictures.items) == len(wrong)
    assert pictures.items[0].lines == (f"class {SCRIPT}", "packed: a & b \"c\" 'd', 77.00 %")
    shares = [float(one.lines[1].split(", ")[-1].removesuffix(" %")) for one in pictures.items]
    assert shares == sorted(shares, reverse=True)


def test_float_right_binary_wrong_names_both_answers(page) -> None:
    (pictures,) = named(page, "Float right, binary wrong").blocks
    assert "6 images that float answers right and packed wrong (0 the other way" in pictures.caption
    first = pictures.items[0].lines
    assert first[1].startswith("float: ")
    assert first[2].startswith("packed: ")


def test_without_pixels_images_are_named_in_a_table(evaluations, agreements) -> None:
    page = evaluation_page(evaluations, agreements, None, "r-images.csv")
    reader = read(html(page))
    assert not reader.all("img")
    (table,) = named(page, "Most confident wrong").blocks
    assert next(row[0].text for row in table.rows).startswith("/data/val/")


def test_every_picture_says_what_it_is(page) -> None:
    pictures = read(html(page)).all("img")
    assert len(pictures) == 12
    assert all(one["alt"] for one in pictures)


def test_confusion_of_many_classes_is_a_list_of_fifty(evaluations) -> None:
    names = tuple(f"class {i}" for i in range(31))
    pairs = tuple((i, j, 1 + (i == j) * 5) for i in range(31) for j in range(31))
    counts = Counts(names, pairs, evaluations[0].counts.bins)
    page = evaluation_page((replace(evaluations[0], counts=counts),), {}, None, None)
    (table,) = named(page, "Confusion").blocks
    assert (len(table.rows), table.square) == (50, False)
    assert "50 most frequent of 930" in table.caption


def test_confusion_of_few_classes_is_a_square(page) -> None:
    square, folded = named(page, "Confusion").blocks
    assert square.square
    numbers = [[cell.text for cell in row[1:]] for row in square.rows]
    assert sum(int(n.replace("·", "0")) for row in numbers for n in row) == N
    assert folded.summary == "The same of float"


def test_too_many_classes_to_count_are_said(evaluations) -> None:
    bare = replace(evaluations[0], counts=None, answers=None)
    page = evaluation_page((bare,), {}, None, None)
    read(html(page))
    assert "too many classes" in text_of(named(page, "Calibration"))


def test_thousands_of_classes_stay_below_a_megabyte(evaluations) -> None:
    names = tuple(f"class of some length {i}" for i in range(4000))
    pairs = tuple((i, i, 3) for i in range(4000))
    counts = Counts(names, pairs, evaluations[0].counts.bins)
    per_class = dict.fromkeys(names, 100.0)
    many = [replace(e, counts=counts, per_class=per_class) for e in evaluations]
    page = evaluation_page(many, {}, None, None)
    assert len(html(page).encode()) < 1_000_000
    (table,) = named(page, "By class").blocks
    assert len(table.rows) == 1000


def test_a_network_that_answers_nan_has_a_page(evaluations) -> None:
    from irbin.records.prediction import LabelledPrediction, Prediction

    none = tuple(
        LabelledPrediction(Prediction(f"{i}.png", (), "no numbers"), 0, "x") for i in range(N)
    )
    broken = replace(evaluations[1], answers=none, loss=math.nan, top1=0.0)
    page = evaluation_page((evaluations[0], broken), {}, None, None)
    read(html(page))
    assert "30 images that float answers right" in text_of(named(page, "Float right, binary wrong"))
