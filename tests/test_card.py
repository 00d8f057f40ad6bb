"""Model cards: front matter that hubs read, nothing made up, names that are no Markdown."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st

from irbin.artifact.schema import Manifest
from irbin.card import LONGEST_NAMES, card, escaped
from irbin.records.card import CardFacts, TrainedFacts
from irbin.records.compression import Timing
from irbin.records.options import Preprocessing, SourceRecord
from irbin.records.plan import Decision, LayerRecord, Plan, PlanOptions
from irbin.records.results import Evaluation

LAYER = LayerRecord("conv", "conv2d", "Conv2d", (8, 8, 3, 3), 1, False, 9, (8, 4, 4), (8, 4, 4))
PLAN = Plan(PlanOptions(), (Decision(LAYER, True, "binary", 80),), (3, 32, 32), 0, 0, 0)
SOURCE = SourceRecord(
    "/home/me/model.pth",
    "timm:resnet18",
    3,
    Preprocessing(),
    weights="/home/me/model.pth",
    class_names=("cat", "a|b", "`<script>"),
)
MANIFEST = Manifest("0.1.0", "float32", SOURCE, PLAN)
TRAINED = TrainedFacts("/home/me/my_recipe.yaml", 8, "pets|mine", 7, 61.5)
FACTS = CardFacts(5000, TRAINED, "apache-2.0", "timm/resnet18.a1_in1k")
MEASURED = Evaluation("o/packed", "packed", 100, 60.0, 90.0, 1.0, {}, 9.0, 9, 5000, Preprocessing())


def test_hubs_read_the_front_matter() -> None:
    data = ModelCard(card(MANIFEST, FACTS)).data
    assert data.library_name == "irbin"
    assert data.pipeline_tag == "image-classification"
    assert data.license == "apache-2.0"
    assert data.base_model == "timm/resnet18.a1_in1k"
    assert "1w1a" in data.tags


def test_a_backbone_is_no_classifier() -> None:
    backbone = replace(MANIFEST, source=replace(SOURCE, num_classes=0, class_names=None))
    data = ModelCard(card(backbone, CardFacts(1))).data
    assert data.pipeline_tag == "image-feature-extraction"
    assert data.license is None


def test_what_was_not_measured_is_called_so() -> None:
    text = card(MANIFEST, CardFacts(5000))
    assert "The packed network: not measured.\n" in text
    assert "| speed | not measured |" in text
    assert "| licence of the weights it was made from | not stated |" in text
    assert text.count("not recorded") == 3
    assert "±" not in text
    ran = card(MANIFEST, FACTS)
    assert "not measured. In training, the network that it was packed from reached 61.50 %" in ran
    beside = replace(FACTS, evaluations=(replace(MEASURED, kind="float"),))
    assert "The packed network: not measured." in card(MANIFEST, beside)
    unseen = replace(FACTS, trained=replace(TRAINED, best_epoch=0))
    assert "In training" not in card(MANIFEST, unseen)


def test_what_was_measured_has_its_chance_and_its_machine() -> None:
    timing = Timing(0.5, 4.0, 1, "AMD | EPYC", "2.14", "avx2", "bytes")
    text = card(MANIFEST, replace(FACTS, evaluations=(MEASURED,), timing=timing))
    assert f"| packed | 60.00 ± {MEASURED.top1_margin:.2f} | 90.00 ± " in text
    assert "0.5 ms an image on 1 thread of AMD &#124; EPYC, avx2 kernels; the float network" in text
    assert "other work" not in text
    busy = replace(FACTS, timing=replace(timing, is_busy=True))
    assert "ms, other work beside |" in card(MANIFEST, busy)
    alone = replace(timing, float_ms=None)
    assert "float network in torch" not in card(MANIFEST, replace(FACTS, timing=alone))


def test_no_way_through_folders_is_told() -> None:
    text = card(MANIFEST, FACTS)
    assert "/home" not in text
    assert "model.pth" in text
    assert "my\\_recipe.yaml" in text


@pytest.mark.parametrize(("trained", "told"), [(False, "none"), (True, "trained by irbin")])
def test_a_float_network_trained_from_nothing_is_not_told_to_be_without_weights(
    trained: bool, told: str
) -> None:
    made = replace(MANIFEST, source=replace(SOURCE, weights=None, trained=trained))
    assert f"| float weights | {told} |\n" in card(made, FACTS)


def test_the_float_networks_training_is_told_beside_the_binary_ones() -> None:
    trained = TrainedFacts("float", 1, "pets|mine", 1, 70.0)
    text = card(MANIFEST, replace(FACTS, float_trained=trained))
    assert "| which were trained | 1 epoch of pets&#124;mine, recipe float |\n" in text
    assert "| epochs | 8 |" in text
    assert "which were trained" not in card(MANIFEST, FACTS)


def test_names_are_shown_as_they_are_and_break_no_table() -> None:
    text = card(MANIFEST, FACTS)
    assert "cat, a&#124;b, &#96;&#60;script&#62;" in text
    assert "pets&#124;mine" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {3}


def test_many_classes_are_cut() -> None:
    names = tuple(f"c{i}" for i in range(LONGEST_NAMES + 1))
    many = replace(MANIFEST, source=replace(SOURCE, num_classes=len(names), class_names=names))
    text = card(many, FACTS)
    assert f"c{LONGEST_NAMES - 1}, …" in text
    assert f"c{LONGEST_NAMES}," not in text


@given(st.text())
def test_whatever_a_name_is_it_stays_on_its_line(name: str) -> None:
    shown = escaped(name)
    assert len(shown.splitlines()) <= 1
    assert not set("|<>`") & set(shown)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_run_that_went_wrong_is_told(value: float) -> None:
    assert f"{value:.2f} %" in card(
        MANIFEST, replace(FACTS, trained=replace(TRAINED, best_top1=value))
    )
