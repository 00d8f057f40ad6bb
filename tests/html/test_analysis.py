from __future__ import annotations

from dataclasses import replace

import pytest

from irbin.html.analysis import analysis_page
from irbin.html.page import html
from irbin.html.plan import SECTIONS
from irbin.records.analysis import Analysis, Budget, LayerAnalysis, PathPoint, Proposal
from irbin.records.plan import PlanOptions
from tests.html.conftest import SCRIPT, read
from tests.html.test_run import blocks_of

NAN = float("nan")


@pytest.fixture
def record() -> Analysis:
    layers = (
        LayerAnalysis(SCRIPT, (SCRIPT,), 0.9, 70.0, 0.1, 0.01, 100_000, 1e-4),
        LayerAnalysis("b", ("b",), NAN, 10.0, NAN, NAN, 5_000, -1e-5),
    )
    path = (
        PathPoint(0, 900_000, 0.002, 0.8, 75.0, True),
        PathPoint(1, 500_000, 0.001, 0.9, 70.0, True),
        PathPoint(2, 100_000, 0.0005, 5.0, 10.0),
    )
    proposal = Proposal(
        Budget("bytes", 6e5), PlanOptions(), ("b",), (SCRIPT,), replace(path[1], on_front=True)
    )
    notes = ("a note",)
    return Analysis(
        SCRIPT, "layer", "bytes", PlanOptions(), 64, 8, layers, path, proposal, "", notes
    )


def test_the_sections_are_those_of_a_plan(record) -> None:
    page = analysis_page(record, "irbin convert n")
    text = html(page)
    assert read(text).words("h2") == list(SECTIONS)
    assert SCRIPT not in text
    assert text == html(page)
    assert blocks_of(page, "What to type")[0].line == "irbin convert n"


def test_layers_are_ranked_with_their_fate(record) -> None:
    table = blocks_of(analysis_page(record, "x"), "Every layer and why")[0]
    assert [[cell.text for cell in row] for row in table.rows] == [
        [SCRIPT, "+0.100", "0.01", "70.00", "100 kB", "100", "binary"],
        ["b", "–", "–", "10.00", "5.00 kB", "-10", "float"],
    ]


def test_the_way_down_ends_all_binary(record) -> None:
    table = blocks_of(analysis_page(record, "x"), SECTIONS[0])[-1]
    assert [row[0].text for row in table.rows] == ["float", "1 binary", "all binary", "proposed"]


def test_without_a_budget_flags_are_named(record) -> None:
    bare = replace(record, proposal=None)
    assert "`--max-bytes`" in blocks_of(analysis_page(bare, None), "What to type")[0].text
    unmet = replace(bare, unmet="nothing is so small")
    assert blocks_of(analysis_page(unmet, None), "What to type")[0].text == "nothing is so small."


def test_what_was_stopped_early_has_a_page(record) -> None:
    early = replace(record, layers=(), path=(), proposal=None, interrupted=True)
    page = analysis_page(early, None)
    read(html(page))
    assert "Stopped by Ctrl-C" in repr(page)
