from __future__ import annotations

from dataclasses import replace

import pytest

from irbin.html.page import html
from irbin.html.run import run_page, time_line, verdict_line
from irbin.records.training import EpochRecord
from tests.html.conftest import SCRIPT, read

SECTIONS = [
    "Verdict and symptoms",
    "Curves",
    "Layers over epochs",
    "Stages",
    "Recipe against the default",
    "Time and waiting",
]


def blocks_of(page, title: str):
    return next(one.blocks for one in page.sections if one.title == title)


def test_the_sections_are_those_of_the_docs_in_order(recorded) -> None:
    text = html(run_page(recorded))
    assert read(text).words("h2") == SECTIONS
    assert text == html(run_page(recorded))
    assert SCRIPT not in text
    assert len(text.encode()) < 300_000


def test_every_drawing_says_what_is_to_be_seen(recorded) -> None:
    drawn = [one for one in read(html(run_page(recorded))).all("div") if one.get("role") == "img"]
    assert len(drawn) == 12 + 3 + 1
    assert drawn[0]["aria-label"].startswith(f"loss: {SCRIPT}, training 2 to 1, validation 1.5 to")
    assert any("entropy of the weights" in one["aria-label"] for one in drawn)


def test_the_verdict_says_how_far_and_how_well(recorded) -> None:
    assert verdict_line(recorded) == (
        f"{SCRIPT} reached 62.00 % of the validation images in epoch 3, 61.00 % at the end; 4 of 6 "
        "epochs are done."
    )
    whole = replace(recorded, epochs=recorded.epochs[:3], recipe=replace(recorded.recipe, epochs=3))
    assert verdict_line(whole).endswith("in epoch 3; all 3 epochs are done.")


def test_nothing_evaluated_yet_is_said(recorded) -> None:
    nan = float("nan")
    bare = replace(
        recorded, epochs=(EpochRecord(0, 2.0, 20.0, nan, nan, nan, 0.1, nan, nan, 9.0, 9),)
    )
    assert "nothing that counts was evaluated yet" in verdict_line(bare)
    read(html(run_page(bare)))


def test_a_healthy_run_has_no_symptom_and_a_sick_one_has(recorded) -> None:
    (_, words) = blocks_of(run_page(recorded), "Verdict and symptoms")
    assert words.tone == "good"
    epochs = tuple(replace(one, train_loss=2.0 + one.epoch) for one in recorded.epochs)
    sick = replace(recorded, epochs=epochs)
    (_, words) = blocks_of(run_page(sick, str.upper), "Verdict and symptoms")
    assert words.text.startswith("From epoch 4 on THE RUN DIVERGES")
    assert words.tone == "bad"


def test_knobs_that_differ_say_who_said_them(recorded) -> None:
    (table,) = blocks_of(run_page(recorded), "Recipe against the default")
    rows = {row[0].text: [cell.text for cell in row[1:4]] for row in table.rows}
    assert rows["lr"] == ["0.5", "0.003", "flag"]
    assert rows["epochs"] == ["6", "10", "recipe mine"]
    assert rows["amp"] == ["off", "auto", "decided when it began"]
    assert "3 of " in table.caption


def test_values_of_a_list_stay_apart(recorded) -> None:
    recipe = replace(recorded.recipe, decay_milestones=(3.0, 5.0))
    (table,) = blocks_of(run_page(replace(recorded, recipe=recipe)), "Recipe against the default")
    rows = {row[0].text: row[1].text for row in table.rows}
    assert rows["decay-milestones"] == "3.0, 5.0"


def test_stages_are_told_apart(recorded) -> None:
    recipe = replace(recorded.recipe, float_epochs=1, activation_epochs=1)
    names = ("float", "activations", "binary", "binary")
    epochs = tuple(
        replace(one, stage=name) for one, name in zip(recorded.epochs, names, strict=True)
    )
    run = replace(recorded, recipe=recipe, epochs=epochs)
    (table,) = blocks_of(run_page(run), "Stages")
    assert [[cell.text for cell in row[:2]] for row in table.rows] == [
        ["float", "1 to 1"],
        ["activations", "2 to 2"],
        ["binary", "3 to 4"],
    ]


def test_a_float_run_has_no_layers(recorded) -> None:
    page = run_page(replace(recorded, layers=(), plan=None))
    read(html(page))
    assert "There is none" in blocks_of(page, "Layers over epochs")[0].text
    assert "nothing is binary" in blocks_of(page, "Stages")[0].text


@pytest.mark.parametrize("waiting", [float("nan"), 0.25])
def test_waiting_is_told_where_it_was_measured(recorded, waiting: float) -> None:
    epochs = [replace(one, waiting=waiting) for one in recorded.epochs]
    line = time_line(epochs)
    assert line.startswith("0:40 in all, 0:10 an epoch, 100 images a second in the median epoch")
    assert ("25.00 % of it" in line) == (waiting == 0.25)
