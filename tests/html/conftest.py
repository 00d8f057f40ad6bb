"""Small fixed records with names that would break a page that did not escape them."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from irbin.recipes.recipe import Recipe
from irbin.records.counts import Bin, Counts
from irbin.records.options import Preprocessing
from irbin.records.plan import PlanOptions
from irbin.records.prediction import Answer, LabelledPrediction, Prediction
from irbin.records.results import Agreement, Disagreement, Evaluation, LayerAgreement
from irbin.records.training import EpochRecord, LayerDiagnostics
from irbin.training.recorded import RecordedRun

SCRIPT = "<script>alert(1)</script>"
CLASSES = (SCRIPT, "a & b \"c\" 'd'", "$x$ `y` {{ 7 * 7 }}")
N = 30
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Reader(HTMLParser):
    """What a page says, and whether its tags close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def words(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]


def read(text: str) -> Reader:
    """A page, whose laws are held: whole, self-contained, nothing of others' run."""
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    assert text.startswith("<!doctype html>")
    assert "http" not in text.replace("http-equiv", "")
    assert len(reader.all("script")) == 1
    assert not reader.all("iframe")
    for tag, attributes in reader.tags:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        for name in ("src", "href"):
            value = attributes.get(name) or "#"
            assert re.match(r"#|data:|[\w.%-]+$", value), value
    ids = [one["id"] for _, one in reader.tags if one.get("id")]
    assert len(ids) == len(set(ids))
    used = re.findall(r'(?:url\(|xlink:href="|href=")#([\w-]+)', text)
    assert set(used) <= set(ids)
    return reader


def answers(right: str) -> tuple[LabelledPrediction, ...]:
    """Of N images: `1` where the answer is right, repeated."""
    made = []
    for i in range(N):
        label = i % 3
        best = label if right[i % len(right)] == "1" else (label + 1) % 3
        sure = 0.5 + i / 100
        told = (Answer(best, CLASSES[best], sure), Answer((best + 1) % 3, "", 1 - sure))
        image = f"/data/val/{CLASSES[label]}/{SCRIPT}{i}.png"
        made.append(LabelledPrediction(Prediction(image, told), label, CLASSES[label]))
    return tuple(made)


def counts_of(given: tuple[LabelledPrediction, ...]) -> Counts:
    pairs: dict[tuple[int, int], int] = {}
    for one in given:
        key = (one.label, one.told.best[0].index)
        pairs[key] = pairs.get(key, 0) + 1
    right = sum(one.is_right for one in given) / N
    bins = (Bin(N // 2, 0.55, right), Bin(N - N // 2, 0.7, right))
    return Counts(CLASSES, tuple((*key, n) for key, n in sorted(pairs.items())), bins)


def evaluated(name: str, kind: str, right: str, size: int, speed: float) -> Evaluation:
    given = answers(right)
    top1 = 100 * sum(one.is_right for one in given) / N
    counts = counts_of(given)
    per_class = {one.name: one.recall for one in counts.figures()}
    return Evaluation(
        name,
        kind,  # type: ignore[arg-type]  # a Literal
        N,
        top1,
        100.0,
        0.5,
        per_class,
        speed,
        300_000,
        size,
        Preprocessing((3, 8, 8)),
        counts=counts,
        answers=given,
    )


@pytest.fixture
def evaluations() -> tuple[Evaluation, ...]:
    """Float, binary and packed, the last two with the same answers."""
    return (
        evaluated("float", "float", "11111", 1_200_000, 1000),
        evaluated("run", "binary", "11011", 1_200_000, 800),
        evaluated(f"out/{SCRIPT}", "packed", "11011", 100_000, 9000),
    )


@pytest.fixture
def agreements(evaluations) -> dict[str, tuple[str, Agreement]]:
    agreement = Agreement(
        N,
        96.67,
        0.001,
        (LayerAgreement("a.conv", 1000, 3, 1e-7), LayerAgreement("b", 10, 0, 0.0)),
        (Disagreement(4, 1, 2, 0.01, f"begins at `a.conv` {SCRIPT}"),),
    )
    return {evaluations[2].name: (evaluations[1].name, agreement)}


@pytest.fixture
def pixels() -> dict[int, np.ndarray]:
    rng = np.random.default_rng(0)
    return {i: rng.integers(0, 256, (8, 8, 3), dtype=np.uint8) for i in range(N)}


@pytest.fixture
def recorded() -> RecordedRun:
    """Four epochs of six of a binary network with a name that would be a script."""
    recipe = Recipe(epochs=6, lr=0.5, amp="off")
    epochs = tuple(
        EpochRecord(
            i,
            2.0 - i / 3,
            50.0 + i,
            1.5 - i / 10,
            60.0 + (i if i < 3 else 1),
            90.0,
            0.1,
            0.1 * 2**i,
            1.0,
            100.0,
            10.0,
            0.001,
            *[0.1, 0.8, 0.99, 0.9, 0.98, 0.0, 0.9, 0.1],
        )
        for i in range(4)
    )
    layers = tuple(
        LayerDiagnostics(i, name, 0.1 / (i + 1), 0.8, 0.99, 0.9, 0.98, 0.0, 0.9, 0.1)
        for i in range(4)
        for name in ("layer1.conv1", SCRIPT)
    )
    args = {
        "command": {"source": SCRIPT, "recipe": "mine", "overrides": {"lr": 0.5}},
        "asked": {"amp": "auto", "compile": False},
        "data": {"batch_size": 64},
        "source": {"architecture": SCRIPT, "num_classes": 10},
        "hardware": {"processor": "none & <b>"},
        "versions": {"irbin": "0"},
    }
    return RecordedRun(SCRIPT, recipe, args, PlanOptions(), epochs, layers, ())
