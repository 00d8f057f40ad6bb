from __future__ import annotations

import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from irbin.cli import plot as command
from irbin.cli.plot import LAYER_FIGURES, complete_layers, complete_metric
from irbin.records.training import EpochRecord, LayerDiagnostics
from irbin.report.curves import PANELS

EPOCH = EpochRecord(0, 1.5, 50.0, 1.25, 60.0, 90.0, 0.1, 0.316, 3.16, 1000.0, 12.0)
LAYER = LayerDiagnostics(0, "conv", *([0.5] * 8))


def write(file: Path, *rows: Any) -> None:
    file.parent.mkdir(exist_ok=True)
    (file.parent / "args.yaml").touch()
    lines = [",".join(asdict(rows[0])), *(",".join(map(str, asdict(r).values())) for r in rows)]
    file.write_text("\n".join(lines) + "\n")


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two runs, `a` and `b`, in the current folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        write(Path(name) / "summary.csv", EPOCH, replace(EPOCH, epoch=1))
    return tmp_path


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The arguments of every picture, which is then a word."""
    seen: list[tuple[Any, ...]] = []

    def instead(*words: Any) -> bytes:
        seen.append(words)
        return b"picture"

    monkeypatch.setattr(command, "curves", instead)
    monkeypatch.setattr(command, "layer_map", instead)
    return seen


def test_a_run_is_drawn_into_its_folder_and_several_here(run, runs, drawn) -> None:
    assert run("plot", "a").err == "wrote a/curves.png\n"
    assert run("plot", "a", "b/", "./a").err == "wrote curves.png\n"
    assert run("plot", "b", "./b/").err == "wrote b/curves.png\n"
    names = ["loss", "accuracy", "lr", "ede", "speed"]
    assert [(list(found), panels, suffix) for found, panels, suffix in drawn] == [
        (["a"], names, ".png"),
        (["a", "b"], names, ".png"),
        (["b"], names, ".png"),
    ]
    assert drawn[1][0]["b"][1].epoch == 1
    assert Path("a/curves.png").read_bytes() == Path("curves.png").read_bytes() == b"picture"


def test_a_picture_is_really_one(run, runs) -> None:
    done = run("plot", "a", "-o", "out.svg", "--metric", "lr")
    assert (done.code, done.out) == (0, "")
    assert Path("out.svg").read_bytes().startswith(b"<?xml")


def test_metrics_are_chosen_and_those_without_figures_told(run, runs, drawn) -> None:
    done = run("plot", "a", "--metric", "flips", "--metric", "lr")
    assert drawn[0][1] == ["lr"]
    assert done.err == "note: no run has figures of `flips`\nwrote a/curves.png\n"


def test_what_stands_there_is_replaced_only_on_request(run, runs, drawn) -> None:
    Path("a/curves.png").write_text("old")
    done = run("plot", "a")
    assert (done.code, done.err) == (
        2,
        "irbin: a/curves.png exists; give another file with `-o`, or `--overwrite`\n",
    )
    assert Path("a/curves.png").read_text() == "old"
    assert run("plot", "a", "--overwrite").code == 0
    assert Path("a/curves.png").read_text() == "picture"


def test_layers_of_one_run_are_a_heat_map(run, runs, drawn) -> None:
    write(Path("a/diagnostics.csv"), LAYER)
    assert run("plot", "a", "--layers", "flip_ratio").err == "wrote a/layers.png\n"
    assert drawn == [("a", [LAYER], "flip_ratio", ".png")]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["a", "nowhere"], 1, "expected a run folder, got nowhere, which is no folder"),
        (
            ["empty"],
            1,
            "expected a run folder of `irbin finetune`, got empty, which has no summary.csv",
        ),
        (["a", "-o", "x.gif"], 2, "`-o`: expected a file ending in .png or .svg, got `x.gif`"),
        (["a", "-o", "no/x.png"], 2, "`-o`: the folder of no/x.png does not exist; make it first"),
        (["a", "--metric", "flips"], 1, "no run has figures of `flips`; draw another `--metric`"),
        (
            ["a", "--metric", "los"],
            2,
            f"`--metric`: expected one of {', '.join(PANELS)}, got `los`",
        ),
        (
            ["a", "b", "--layers", "flip_ratio"],
            2,
            "`--layers` draws one run alone: leave out the others and `--metric`",
        ),
        (
            ["a", "--layers", "flip_ratio", "--metric", "lr"],
            2,
            "`--layers` draws one run alone: leave out the others and `--metric`",
        ),
        (
            ["a", "--layers", "layer"],
            2,
            f"`--layers`: expected one of {', '.join(LAYER_FIGURES)}, got `layer`",
        ),
        (
            ["b", "--layers", "flip_ratio"],
            1,
            "b has no diagnostics.csv: it trained a float network, or an older irbin trained it",
        ),
        (
            ["a", "--layers", "dead_channels"],
            1,
            "a has no figures of `dead_channels`; draw another",
        ),
    ],
)
def test_an_error_is_one_line_and_no_file(
    run, runs, words: list[str], code: int, message: str
) -> None:
    write(Path("a/diagnostics.csv"), replace(LAYER, dead_channels=float("nan")))
    Path("empty").mkdir()
    done = run("plot", *words)
    assert (done.code, done.out, done.err) == (code, "", f"irbin: {message}\n")
    assert not [p for p in runs.rglob("*") if p.suffix in (".png", ".svg", ".partial")]


def test_a_run_is_needed(run) -> None:
    done = run("plot")
    assert done.code == 2
    assert "Missing argument" in done.err


def test_a_missing_matplotlib_is_one_line(run, runs, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    done = run("plot", "a")
    assert (done.code, done.err) == (
        2,
        "irbin: `irbin plot` needs matplotlib, which is not installed: pip install 'irbin[plot]'\n",
    )


def test_the_shell_completes_names() -> None:
    assert complete_metric("l") == ["loss", "lr"]
    assert complete_layers("weight_") == ["weight_entropy", "weight_gradient"]
    assert "layer" not in LAYER_FIGURES
