from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from docs.maintain.zookeeper.begun import began_with, plan_of, runs_behind, teacher_of_run
from irbin.errors import SourceError

pytestmark = pytest.mark.slow  # a folder that was trained for them

Change = Callable[[Path, Callable[[dict[str, Any]], None]], None]


def names_behind(run: Path) -> list[str]:
    return [begun.names[begun.folder] for begun in runs_behind(run)]


@pytest.mark.parametrize(
    ("run", "behind"),
    [("float", ["float"]), ("way", ["float", "way"]), ("step", ["float", "step"])],
)
def test_what_a_run_began_from_stands_before_it(runs: Path, run: str, behind: list[str]) -> None:
    assert names_behind(runs / run) == behind


def test_a_relative_name_is_looked_for_above_the_run(
    runs: Path, change: Change, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def typed(args: dict[str, Any]) -> None:
        args["command"]["source"] = "runs/float"
        args["source"]["spec"] = "gone"

    change(runs / "way", typed)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert names_behind(runs / "way") == ["float", "way"]


def test_history_ends_at_the_zoo(runs: Path, change: Change) -> None:
    def from_zoo(args: dict[str, Any]) -> None:
        args["command"]["source"] = args["source"]["spec"] = "zoo:resnet20-cifar10-float"

    change(runs / "way", from_zoo)
    assert names_behind(runs / "way") == ["way"]


def test_what_is_gone_is_left_out(runs: Path) -> None:
    shutil.rmtree(runs / "float")
    assert names_behind(runs / "way") == ["way"]


def test_runs_that_began_from_each_other_end(runs: Path, change: Change) -> None:
    """A run folder that was made anew under the name of one that another run began from."""
    change(runs / "float", lambda args: args["command"].update(teacher=str(runs / "way")))
    assert names_behind(runs / "way") == ["float", "way"]


def test_runs_of_one_name_are_told_apart(runs: Path, change: Change) -> None:
    (runs / "a").mkdir()
    (runs / "float").rename(runs / "a" / "way")
    change(runs / "way", lambda args: args["command"].update(source=str(runs / "a" / "way")))
    assert names_behind(runs / "way") == ["a/way", "runs/way"]


def test_a_run_is_called_by_its_name_and_part(runs: Path) -> None:
    step = runs_behind(runs / "step")[-1]
    float_run = runs / "float"
    assert step.called(str(float_run)) == "float"
    assert step.called(str(float_run / "best")) == "float"
    assert step.called(str(float_run / "last")) == "float/last"
    assert step.called(str(float_run / "recent" / "epoch-1")) == "float/recent/epoch-1"
    assert step.called("zoo:anything") == "zoo:anything"
    assert step.called(str(runs / "converted" / "step")) == "step"
    assert step.called("/no/such/net.pth") == "net.pth"


def test_knobs_that_came_later_are_off_and_those_that_went_are_dropped(
    runs: Path, change: Change
) -> None:
    def older(args: dict[str, Any]) -> None:
        del args["recipe"]["recu"], args["recipe"]["distill_blocks"]
        args["recipe"]["gone_by_now"] = 3

    before = runs_behind(runs / "way")[-1].knobs
    change(runs / "way", older)
    assert runs_behind(runs / "way")[-1].knobs == before


def test_began_with_and_teacher(runs: Path) -> None:
    assert not began_with(runs / "float").trained
    assert began_with(runs / "way").spec == str(runs / "float" / "best")
    assert began_with(runs / "step").trained
    assert teacher_of_run(runs / "way") is None
    assert teacher_of_run(runs / "step") == str(runs / "float" / "last")
    shutil.rmtree(runs / "float")
    assert teacher_of_run(runs / "step") == str(runs / "float" / "last")


def test_plan_of(runs: Path) -> None:
    assert plan_of(runs / "float") is None
    plan = plan_of(runs / "way")
    assert plan is not None
    assert plan.options.shortcut == "bireal"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: f.unlink(), r"args.yaml`: expected what a run began with, got: .*No such file"),
        (lambda f: f.write_text("a: [1"), r"args.yaml`: expected what a run began with, got: "),
        (lambda f: f.write_bytes(b"\xff"), r"args.yaml`: expected what a run began with, got: "),
        (lambda f: f.write_text(""), r"args.yaml`: expected `command`, which an older irbin"),
        (lambda f: f.write_text("recipe: 1"), r"args.yaml`: expected `command`, which an older"),
    ],
    ids=["missing", "yaml", "bytes", "empty", "too little"],
)
def test_damaged_args(runs: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(runs / "way" / "args.yaml")
    with pytest.raises(SourceError, match=message) as caught:
        teacher_of_run(runs / "way")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("command", 3, r"expected names and values under `command`"),
        ("hardware", None, r"expected names and values under `hardware`"),
        ("source", {}, r"expected the network's name under `source`, got none"),
        ("source", {"spec": 3}, r"expected the network's name under `source`, got none"),
    ],
)
def test_args_of_another_shape(
    runs: Path, change: Change, key: str, value: Any, message: str
) -> None:
    change(runs / "way", lambda args: args.update({key: value}))
    with pytest.raises(SourceError, match=message):
        began_with(runs / "way")


def test_a_source_that_is_no_record(runs: Path, change: Change) -> None:
    change(runs / "way", lambda args: args["source"].pop("num_classes"))
    with pytest.raises(SourceError, match=r"args.yaml`: source: at `num_classes`: Field required"):
        began_with(runs / "way")


def test_a_knob_that_cannot_be_meant(runs: Path, change: Change) -> None:
    change(runs / "way", lambda args: args["recipe"].update(lr=-1))
    with pytest.raises(SourceError, match=r"args.yaml`: `lr`: .*got -1"):
        _ = runs_behind(runs / "way")[-1].knobs
