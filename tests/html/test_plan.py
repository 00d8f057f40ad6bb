from __future__ import annotations

from dataclasses import replace

import pytest

from irbin.html.page import html
from irbin.html.plan import SECTIONS, plan_page
from irbin.planning.estimate import estimate
from irbin.records.plan import Decision, LayerRecord, Plan, PlanOptions
from tests.html.conftest import SCRIPT, read
from tests.html.test_run import blocks_of


def layer(name: str, n_macs: int = 1_000_000) -> LayerRecord:
    shapes = ((64, 8, 8), (64, 8, 8))
    return LayerRecord(name, "conv2d", "Conv2d", (64, 64, 3, 3), 1, False, n_macs, *shapes)


@pytest.fixture
def plan() -> Plan:
    decisions = (
        Decision(layer(SCRIPT), False, "first layer", 147_456),
        Decision(layer("layer1.0.conv1"), True, "binary", 4_672),
        Decision(layer("never.runs", 0), False, "never called <b>", 0),
    )
    return Plan(PlanOptions(), decisions, (3, 32, 32), 10, 40, 10)


def test_the_sections_are_those_of_the_docs_in_order(plan) -> None:
    page = plan_page(SCRIPT, plan, estimate(plan), f"irbin convert '{SCRIPT}' -o CONVERTED")
    text = html(page)
    reader = read(text)
    assert reader.words("h2") == list(SECTIONS)
    assert (SCRIPT in text, "<b>" in text) == (False, False)
    assert text == html(page)


def test_every_layer_has_its_fate_and_a_reason(plan) -> None:
    page = plan_page("n", plan, estimate(plan), "irbin convert n -o CONVERTED")
    table = blocks_of(page, "Every layer and why")[0]
    assert [[row[6].text, row[7].text] for row in table.rows] == [
        ["float", "first layer"],
        ["binary", ""],
        ["float", "never called <b>"],
    ]
    assert "3 layers, 1 of them binary" in table.caption


def test_bars_add_up_to_the_network(plan) -> None:
    (figure,) = blocks_of(plan_page("n", plan, estimate(plan), "x"), "Layer by layer")
    size, macs = (drawing.alt for drawing in figure.drawings)
    assert size == "size, kB, 3 bars: stays 152.1 in all; saved 290.2 in all"
    assert macs == "multiply-adds of an image, millions, 3 bars: binary 1 in all; float 1 in all"


def test_the_command_is_there_to_be_copied(plan) -> None:
    page = plan_page("n", plan, estimate(plan), "irbin convert n -o CONVERTED")
    assert blocks_of(page, "What to type")[0].line == "irbin convert n -o CONVERTED"


@pytest.mark.parametrize("n", [0, 1, 600])
def test_any_number_of_layers_has_a_page(plan, n: int) -> None:
    decisions = tuple(replace(plan.decisions[1], layer=layer(f"blocks.{i}.conv")) for i in range(n))
    many = replace(plan, decisions=decisions)
    text = html(plan_page("n", many, estimate(many), "x"))
    read(text)
    assert len(text.encode()) < 1_000_000
