from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
from matplotlib.figure import Figure

from irbin.records.training import EpochRecord, LayerDiagnostics
from irbin.report.curves import (
    DEFAULT_PANELS,
    PANELS,
    curves,
    layer_map,
    panels_with_figures,
)

NAN = math.nan
NAMES = [field.name for field in fields(EpochRecord)]


def epochs(n: int, **figures: float) -> list[EpochRecord]:
    """Every figure falls from 1 to 1/n, except those that are given."""
    return [EpochRecord(e, **(dict.fromkeys(NAMES[1:], 1 / (e + 1)) | figures)) for e in range(n)]


def words(svg: bytes) -> list[str]:
    """What is written in the picture: matplotlib draws glyphs and leaves the words in comments."""
    return [found.replace("- -", "--") for found in re.findall(r"<!-- (.*?) -->", svg.decode())]


def test_every_panel_draws_fields_of_the_record() -> None:
    drawn = {line.field for panel in PANELS.values() for line in panel.lines}
    assert drawn == set(NAMES) - {"epoch", "eval_top5", "seconds", "stage", "steps"}
    assert set(DEFAULT_PANELS) < set(PANELS)


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "magic"), [(".png", b"\x89PNG"), (".SVG", b"<?xml")])
def test_it_is_what_its_name_says_and_the_same_again(suffix: str, magic: bytes) -> None:
    runs = {"a": epochs(3), "b": epochs(5)}
    content = curves(runs, ["loss", "ede", "lr"], suffix)
    assert content.startswith(magic)
    assert curves(runs, ["loss", "ede", "lr"], suffix) == content


def test_a_figure_that_no_run_has_gets_no_panel() -> None:
    float_run = epochs(2, t=NAN, k=NAN, flip_ratio=NAN)
    assert panels_with_figures({"a": float_run}, DEFAULT_PANELS) == [
        "loss",
        "accuracy",
        "lr",
        "speed",
    ]
    both = {"a": float_run, "b": epochs(2)}
    assert panels_with_figures(both, DEFAULT_PANELS) == list(DEFAULT_PANELS)
    assert panels_with_figures(both, ["waiting", "lr"]) == ["lr", "waiting"]
    assert panels_with_figures({"a": epochs(2, lr=NAN)}, ["lr"]) == []


def test_panels_runs_and_their_best_accuracy_are_named() -> None:
    falling = [*epochs(1, eval_top1=88.9), *epochs(2, eval_top1=12.0)[1:]]
    runs = {"first": falling, "second": epochs(2, eval_top1=NAN)}
    shown = words(curves(runs, ["loss", "flips"], ".svg"))
    for word in ("loss", "signs flipped in an epoch, %", "training", "validation", "second"):
        assert word in shown
    assert "first, best top-1 88.90 %" in shown
    assert "learning rate" not in shown


def test_a_long_name_loses_its_middle() -> None:
    shown = words(curves({"a" * 50 + "z" * 50: epochs(2, eval_top1=NAN)}, ["lr"], ".svg"))
    assert "a" * 20 + "…" + "z" * 19 in shown


@pytest.mark.slow
@pytest.mark.parametrize(("n_panels", "n_runs"), [(1, 1), (2, 2), (3, 11), (12, 1)])
def test_any_number_of_panels_and_runs_is_drawn_without_a_warning(
    n_panels: int, n_runs: int
) -> None:
    runs = {f"run {i}": epochs(1 + i) for i in range(n_runs)}
    assert curves(runs, list(PANELS)[:n_panels], ".png")


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """The lines of one panel, as matplotlib got them."""

    def draw(run: list[EpochRecord], panel: str) -> list[Any]:
        figure = Figure(layout="constrained")
        monkeypatch.setattr("irbin.report.curves.drawn", lambda draw, size, suffix: draw(figure))
        curves({"a": run}, [panel], ".png")
        return list(figure.axes[0].lines)

    return draw


def test_epochs_count_from_one_and_a_gap_between_evaluations_is_bridged(lines) -> None:
    sparse = [replace(e, eval_top1=NAN) if e.epoch % 2 else e for e in epochs(5)]
    train, val = lines(sparse, "accuracy")
    assert list(train.get_xdata()) == [1, 2, 3, 4, 5]
    assert list(val.get_xdata()) == [1, 3, 5]
    assert list(val.get_ydata()) == [1, 1 / 3, 1 / 5]


def test_shares_are_drawn_as_per_cent(lines) -> None:
    (flips,) = lines(epochs(2), "flips")
    assert list(flips.get_ydata()) == [100, 50]


def test_a_line_of_one_point_is_seen(lines) -> None:
    assert [line.get_marker() for line in lines(epochs(1), "accuracy")] == ["o", "o"]
    assert [line.get_marker() for line in lines(epochs(2), "accuracy")] == ["None", "None"]


@pytest.mark.slow
@pytest.mark.parametrize("value", [0.0, math.inf, NAN])
def test_what_has_no_logarithm_is_no_error(value: float) -> None:
    assert curves({"a": epochs(3, t=value)}, ["ede"], ".png")


def layer(epoch: int, name: str, flip_ratio: float) -> LayerDiagnostics:
    return LayerDiagnostics(epoch, name, flip_ratio, *([0.5] * 7))


class TestLayerMap:
    def test_layers_are_named_in_their_order(self) -> None:
        rows = [layer(e, name, 0.1 * e) for e in range(3) for name in ("stem.b", "layer.a")]
        shown = words(layer_map("run", rows, "flip_ratio", ".svg"))
        assert "run: flip ratio" in shown
        assert [word for word in shown if word in ("stem.b", "layer.a")] == ["stem.b", "layer.a"]

    @pytest.mark.slow
    def test_a_later_row_holds_and_a_gap_is_no_error(self) -> None:
        rows = [layer(0, "a", 0.5), layer(2, "a", 0.5), layer(0, "a", 0.1), layer(2, "b", NAN)]
        assert layer_map("run", rows, "flip_ratio", ".png") == layer_map(
            "run", rows[1:], "flip_ratio", ".png"
        )

    @pytest.mark.slow
    @pytest.mark.parametrize("n_layers", [1, 60])
    def test_any_number_of_layers_is_drawn(self, n_layers: int) -> None:
        assert layer_map(
            "run", [layer(0, f"l{i}", 0.1) for i in range(n_layers)], "flip_ratio", ".png"
        )
