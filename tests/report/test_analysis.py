import json
import math
import sys
from dataclasses import replace

import pytest

from irbin.errors import UsageError
from irbin.records.analysis import Analysis, Budget, LayerAnalysis, PathPoint, Proposal
from irbin.records.json import to_json
from irbin.records.plan import PlanOptions
from irbin.report import analysis, picture
from irbin.report.jsonout import dumps


def layer(name: str, increase: float, n_bytes: int, seconds: float) -> LayerAnalysis:
    error = increase / 10
    return LayerAnalysis(name, (name,), 0.5 + increase, 70, increase, error, n_bytes, seconds)


@pytest.fixture
def record() -> Analysis:
    layers = (
        layer("layer1.0.conv1", 0.25, 500_000, 1e-4),
        layer("layer1.0.conv2", 1.0, 500_000, 5e-5),
        layer("layer2", math.nan, 250_000, -1e-6),
    )
    path = (
        PathPoint(0, 1_500_000, 3e-3, 0.5, 90.0, True),
        PathPoint(1, 1_000_000, 2.9e-3, 0.75, 80.0, True),
        PathPoint(3, 250_000, 2.8e-3, math.nan, 0.0, True),
    )
    options = PlanOptions(keep=("layer9", "layer2"))
    proposal = Proposal(
        Budget("bytes", 1_200_000), options, ("layer2",), ("layer1.0.conv1",), path[1]
    )
    return Analysis("runs/net", "layer", "bytes", options, 512, 256, layers, path, proposal)


def rows(text: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}


def test_heading_names_network_baseline_and_sample(record):
    assert analysis.analysis_heading(record) == (
        "runs/net: one layer at a time, 1w1a, float top-1 90.00 % and loss 0.5, 512 images, "
        "batch norm of 256 training images"
    )
    bare = replace(record, path=(), n_calibration=0)
    assert analysis.analysis_heading(bare).endswith("1w1a, 512 images")


def test_a_bar_is_as_long_as_the_loss(record, render):
    table = rows(render(analysis.ranking_table(record, 80), 80))
    assert table["layer1.0.conv2"][3] == "█" * analysis.BAR_WIDTH
    assert table["layer1.0.conv1"][3] == "██"  # a quarter
    assert table["layer1.0.conv1"][-4:] == ["500", "kB", "+0.5", "binary"]
    assert table["layer1.0.conv2"][-1] == "float"


def test_a_loss_that_is_not_finite_is_said(record, render):
    text = render(analysis.ranking_table(record, 80), 80)
    assert rows(text)["layer2"][1:4] == ["–", "–", "█" * analysis.BAR_WIDTH]
    assert "nan" not in text


@pytest.mark.parametrize(
    ("increase", "n_bytes", "shown"),
    [(0.3, 100_000, "+3"), (0.1234, 10_000, "+12"), (0.1, 100, "+1,000"), (-0.1, 10**7, "-0.01")],
)
def test_loss_for_a_megabyte_has_two_digits(record, render, increase, n_bytes, shown):
    found = replace(record, layers=(layer("x", increase, n_bytes, 0),), proposal=None)
    assert rows(render(analysis.ranking_table(found, 80), 80))["x"][-1] == shown


def test_time_is_shown_where_it_ranks(record, render):
    table = rows(render(analysis.ranking_table(replace(record, ranked_by="time"), 80), 80))
    assert table["layer1.0.conv1"][-4:] == ["100", "µs", "+2.5", "binary"]
    assert table["layer2"][-4:] == ["-1", "µs", "–", "float"]


def test_without_a_budget_nothing_is_proposed(record, render):
    bare = replace(record, proposal=None)
    assert "plan" not in render(analysis.ranking_table(bare, 80), 80)
    assert "proposed" not in render(analysis.path_table(bare, 80), 80)


def test_short_names_do_not_break_their_head(record, render):
    short = replace(record, layers=(replace(record.layers[0], name="a"),))
    assert render(analysis.ranking_table(short, 80), 80).split()[0] == record.by


@pytest.mark.parametrize("width", [60, 80, 100])
@pytest.mark.parametrize("name", ["layer1.0.conv1", "stages.0.blocks.1.token_mixer.reparam_conv"])
def test_tables_fit_and_names_stay_whole(record, render, width, name):
    named = replace(record, layers=(replace(record.layers[0], name=name), *record.layers[1:]))
    ranking = render(analysis.ranking_table(named, width), width)
    path = render(analysis.path_table(named, width), width)
    for text in (ranking, path):
        assert max(map(len, text.splitlines())) <= width
        assert "…" not in text
    assert any(line.startswith(f"{name}  +0.250") for line in ranking.splitlines())
    assert "float network" in path
    assert ("●" in path) == (width >= 80)


def test_the_path_ends_in_the_proposal(record, render):
    lines = [line for line in render(analysis.path_table(record, 80), 80).splitlines() if line]
    assert lines[2].split() == ["0", "1.50", "MB", "3.00", "90.00", "0.50", "●", "float", "network"]
    assert lines[-1].split()[-1] == "proposed"


@pytest.mark.parametrize(
    ("budget", "asked"),
    [
        (Budget("bytes", 1_200_000), "at most 1.20 MB"),
        (Budget("latency", 2.5), "at most 2.5 ms"),
        (Budget("drop", 1), "at most 1 points of top-1 lost"),
    ],
)
def test_a_line_says_what_is_proposed_and_for_what(record, budget, asked):
    line = analysis.proposal_line(replace(record.proposal, budget=budget))
    assert line == (
        f"for {asked}: 1 binary layer, 1.00 MB, about 2.90 ms, top-1 80.00 % before any training"
    )


def test_the_command_can_be_pasted(record):
    line = analysis.convert_line(record.proposal, ["my net"], ["--data-dir", "d", "-o", "C"])
    assert line == "irbin convert 'my net' --keep layer9 --keep layer2 --data-dir d -o C"


def test_json_has_no_nan(record):
    value = json.loads(dumps(to_json(record)))
    assert value["layers"][2]["loss_increase"] is None
    assert value["proposal"]["keep"] == ["layer2"]
    assert value["proposal"]["budget"] == {"kind": "bytes", "limit": 1_200_000}


class TestPicture:
    @pytest.mark.slow
    @pytest.mark.parametrize(("suffix", "magic"), [(".png", b"\x89PNG"), (".SVG", b"<?xml")])
    def test_it_is_what_its_name_says_and_the_same_again(self, record, suffix, magic):
        content = picture.picture(record, suffix)
        assert content.startswith(magic)
        assert len(content) < 80_000
        assert picture.picture(record, suffix) == content

    @pytest.mark.parametrize("n_points", [1, 2, 3])
    def test_a_path_that_was_cut_short_is_drawn(self, record, n_points):
        short = replace(record, path=record.path[:n_points], proposal=None, interrupted=True)
        assert picture.picture(short, ".png")

    def test_other_formats_and_folders_that_are_missing_are_told(self, tmp_path):
        with pytest.raises(UsageError) as error:
            picture.check_picture(tmp_path / "front.jpg")
        assert str(error.value) == (
            f"`--plot`: expected a file ending in .png or .svg, got `{tmp_path}/front.jpg`"
        )
        with pytest.raises(UsageError, match=r"does not exist; make it first$"):
            picture.check_picture(tmp_path / "no" / "front.png")
        picture.check_picture(tmp_path / "front.PNG")

    def test_a_missing_matplotlib_is_one_line(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        with pytest.raises(UsageError) as error:
            picture.check_picture(tmp_path / "front.png")
        assert str(error.value) == (
            "`--plot` needs matplotlib, which is not installed: pip install 'irbin[plot]'"
        )
