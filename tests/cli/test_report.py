from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from irbin.recipes.recipe import Recipe
from irbin.records.json import to_json
from irbin.records.training import EpochRecord
from irbin.runs.folder import write_summary

EPOCH = EpochRecord(0, 1.5, 50.0, 1.25, 60.0, 90.0, 0.1, 0.316, 3.16, 1000.0, 12.0)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two runs, `a` and `b`, in the current folder."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate("ab"):
        Path(name).mkdir()
        write_summary(Path(name), [EPOCH, replace(EPOCH, epoch=1)])
        args = {"recipe": to_json(Recipe(seed=seed)), "source": {"num_classes": 10}}
        (Path(name) / "args.yaml").write_text(yaml.safe_dump(args))
    return tmp_path


def test_a_run_is_shown_in_its_folder_and_several_here(run, runs) -> None:
    assert run("report", "a").err == "wrote a/report.html\n"
    assert run("report", "a", "b/", "./a").err == "wrote report.html\n"
    assert "<h1>Run a</h1>" in Path("a/report.html").read_text("utf-8")
    assert "<h1>Comparison of 2 runs</h1>" in Path("report.html").read_text("utf-8")
    assert run("report", "b", "-o", "x.html").err == "wrote x.html\n"


def test_the_same_run_gives_the_same_bytes(run, runs) -> None:
    first = (run("report", "a"), Path("a/report.html").read_bytes())[1]
    assert (run("report", "a"), Path("a/report.html").read_bytes())[1] == first


def test_what_is_no_run_is_one_line(run, runs) -> None:
    done = run("report", "nowhere")
    assert (done.code, done.out) == (1, "")
    assert done.err == "irbin: expected a run folder, got nowhere, which is no folder\n"


def test_a_file_of_the_users_stays(run, runs) -> None:
    Path("mine.html").write_text("mine")
    done = run("report", "a", "-o", "mine.html")
    assert done.code == 2
    assert done.err == (
        "irbin: `-o`: mine.html exists and is no report of irbin's, so it stays; choose another "
        "file\n"
    )
    assert Path("mine.html").read_text() == "mine"


def test_a_picture_is_no_page(run, runs) -> None:
    done = run("report", "a", "-o", "a.png")
    assert done.err == "irbin: `-o`: expected a file ending in .html, got `a.png`\n"
