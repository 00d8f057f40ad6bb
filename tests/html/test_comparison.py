from __future__ import annotations

from dataclasses import replace

from irbin.html.comparison import MOST_RUNS, comparison_page
from irbin.html.page import html
from irbin.records.training import ClassAccuracy
from tests.html.conftest import SCRIPT, read
from tests.html.test_run import blocks_of


def other(run, name: str, **recipe):
    return replace(run, name=name, recipe=replace(run.recipe, **recipe))


def test_the_sections_are_those_of_the_docs_in_order(recorded) -> None:
    page = comparison_page([recorded, other(recorded, "b", seed=7)])
    text = html(page)
    assert read(text).words("h2") == [
        "What differs",
        "Curves over each other",
        "Runs and seeds",
        "Classes that moved most",
    ]
    assert SCRIPT not in text
    assert text == html(page)


def test_arguments_that_differ_stand_side_by_side(recorded) -> None:
    page = comparison_page([recorded, other(recorded, "b", seed=7, lr=0.1)])
    (table,) = blocks_of(page, "What differs")
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["recipe.lr", "0.5", "0.1"],
        ["recipe.seed", "42", "7"],
    ]


def test_runs_of_one_machine_share_the_line_that_tells_it(recorded) -> None:
    here = {**recorded.args, "hardware": {"processor": "EPYC", "cores": 2, "memory_gb": 25}}
    there = {**here, "hardware": {"processor": "i5", "cores": 1, "gpu": "RTX"}}
    runs = [replace(recorded, name=n, args=here) for n in "ab"]
    page = comparison_page([*runs, replace(recorded, name="c", args=there)])
    assert [line for line in page.made if ": on " in line] == [
        "a, b: on EPYC, 2 cores, 25 GB",
        "c: on i5, 1 core, gpu RTX",
    ]


def test_equal_runs_differ_in_nothing(recorded) -> None:
    (words,) = blocks_of(comparison_page([recorded, replace(recorded, name="b")]), "What differs")
    assert words.text.startswith("Nothing")


def test_seeds_of_the_same_arguments_are_added_up(recorded) -> None:
    better = tuple(replace(one, eval_top1=one.eval_top1 + 2) for one in recorded.epochs)
    runs = [
        recorded,
        replace(other(recorded, "b", seed=7), epochs=better),
        other(recorded, "c", seed=7, lr=0.1),
    ]
    every, seeds = blocks_of(comparison_page(runs), "Runs and seeds")[:2]
    assert [row[3].text for row in every.rows] == ["62.00", "64.00", "62.00"]
    ((names, numbers, mean, spread),) = seeds.rows
    assert (names.text, numbers.text) == (f"{SCRIPT}, b", "42, 7")
    assert (mean.text, spread.text) == ("63.00", "1.41")


def test_a_run_and_its_copy_have_no_spread_over_seeds(recorded) -> None:
    copy, second = other(recorded, "copy"), other(recorded, "b", seed=7)
    alone = blocks_of(comparison_page([recorded, copy]), "Runs and seeds")
    assert not [block for block in alone[1:] if hasattr(block, "rows")]
    seeds = blocks_of(comparison_page([recorded, copy, second]), "Runs and seeds")[1]
    assert [cell.text for cell in seeds.rows[0][:2]] == [f"{SCRIPT}, b", "42, 7"]


def test_classes_are_ordered_by_how_far_they_moved(recorded) -> None:
    def accuracies(*best: float) -> tuple[ClassAccuracy, ...]:
        return tuple(ClassAccuracy(n, x, 0.0) for n, x in zip("xyz", best, strict=True))

    runs = [
        replace(recorded, classes=accuracies(50, 60, 70)),
        replace(recorded, name="b", classes=accuracies(51, 40, 70)),
    ]
    (table,) = blocks_of(comparison_page(runs), "Classes that moved most")
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["y", "60.00", "40.00", "20.00"],
        ["x", "50.00", "51.00", "1.00"],
        ["z", "70.00", "70.00", "0.00"],
    ]
    read(html(comparison_page(runs)))


def test_runs_without_classes_say_so(recorded) -> None:
    page = comparison_page([recorded, replace(recorded, name="b")])
    assert "`classes.csv`" in blocks_of(page, "Classes that moved most")[0].text


def test_many_runs_are_all_in_the_table(recorded) -> None:
    runs = [other(recorded, f"r{i}", seed=i) for i in range(MOST_RUNS + 3)]
    page = comparison_page(runs)
    assert len(blocks_of(page, "Runs and seeds")[0].rows) == MOST_RUNS + 3
    assert "3 further runs" in blocks_of(page, "What differs")[1].text
    assert len(html(page).encode()) < 1_000_000
