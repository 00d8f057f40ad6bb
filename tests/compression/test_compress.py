"""One command for the whole journey: what it leaves, and how it goes on after every Ctrl-C."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import irbin
from irbin.artifact.schema import FILES
from irbin.compression.folder import began
from irbin.compression.trained import run_is_over
from irbin.errors import PlanError
from irbin.records.analysis import Analysis
from irbin.records.plan import PlanOptions
from tests.compression.conftest import SPEC, THREE, Seen

NAMES = ["convert", "finetune", "export", "evaluate"]


def packed_bytes(out: Path) -> list[bytes]:
    return [(out / "packed" / name).read_bytes() for name in FILES]


@pytest.mark.slow
def test_it_leaves_every_form_and_what_was_measured(whole, images) -> None:
    out, record, _ = whole
    assert {path.name for path in out.iterdir()} == {
        "compress.json",
        "converted",
        "evaluation.json",
        "packed",
        "report-images.csv",
        "report.html",
        "run",
    }
    assert list(record.evaluations) == ["float", "binary", "packed"]
    assert {one.n_images for one in record.evaluations.values()} == {18}
    assert record.agreement is not None
    assert record.agreement.equal_top1 == 100
    again = irbin.evaluate(out / "packed", data=images)
    assert record.evaluations["packed"].top1 == again.top1
    assert record.export is not None
    assert record.export.total_bytes == again.size_bytes
    assert record.timing is not None
    assert record.timing.packed_ms > 0
    results = json.loads((out / "evaluation.json").read_text())
    assert [one["kind"] for one in results] == ["float", "binary", "packed"]
    assert results[2]["agreement"]["with"] == str(out / "run")
    page = (out / "report.html").read_text("utf-8")
    assert f"{record.evaluations['float'].top1:.2f}" in page
    assert (out / "report-images.csv").read_text("utf-8").count("\n") == 19
    assert not record.evaluations["packed"].answers
    card = (out / "packed" / "README.md").read_text("utf-8")
    top1 = record.evaluations["packed"].top1
    assert f"| packed | {top1:.2f} ± " in card
    assert "| speed | not measured |" not in card
    assert irbin.open_network(out / "converted").plan.options.shortcut == "bireal"
    assert began(out) == record


@pytest.mark.slow
def test_every_step_is_told_as_it_begins_and_with_what_came_of_it(whole) -> None:
    _, _, steps = whole
    assert [one.name for one in steps] == [name for name in NAMES for _ in range(2)]
    assert [bool(one.outcome) for one in steps] == [False, True] * 4
    assert [one.following for one in steps[::2]] == [*NAMES[1:], None]
    assert {(one.n_steps, one.stood_there) for one in steps} == {(4, False)}
    assert "6 of 10 layers are binary" in steps[1].outcome
    weights = steps[1].outcome.split(": ")[1].split(" of weights")[0]
    assert steps[5].outcome.endswith(f" of files, of {weights} of weights")


@pytest.mark.slow
def test_stopped_at_every_step_it_comes_to_the_same_bytes(
    whole, trained: Path, asked: dict[str, Any], tmp_path: Path
) -> None:
    """OUT is gone on with after each Ctrl-C; what was whole is not done again."""
    out = tmp_path / "out"
    stops = [
        *(Seen(stop=name) for name in NAMES[:2]),
        Seen(in_training=True),
        Seen(stop="export"),
        Seen(stop="evaluate"),
        Seen(in_counting="evaluating the binary"),
        Seen(in_counting="comparing"),
    ]
    for seen in stops:
        with pytest.raises(KeyboardInterrupt):
            irbin.compress(trained, out, **asked, resume=True, watcher=seen.watcher())
    partly = began(out)
    assert partly is not None
    assert list(partly.evaluations) == ["float", "binary", "packed"]
    assert partly.agreement is None
    seen = Seen()
    record = irbin.compress(trained, out, **asked, resume=True, watcher=seen.watcher())
    assert [one.name for one in seen.steps if one.stood_there] == NAMES[:3]
    assert packed_bytes(out) == packed_bytes(whole[0])
    tops = [[one.top1 for one in r.evaluations.values()] for r in (record, whole[1])]
    assert tops[0] == tops[1]
    assert irbin.compress(trained, out, **asked, resume=True) == record


@pytest.mark.slow
def test_a_run_that_was_killed_before_it_saved_begins_again(
    whole, trained: Path, asked: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        irbin.compress(trained, out, **asked, watcher=Seen(stop="finetune").watcher())
    (out / "run").mkdir()
    (out / "run" / "args.yaml").write_text("command: {}\n")
    stopped = Seen(stop="evaluate")
    with pytest.raises(KeyboardInterrupt):
        irbin.compress(trained, out, **asked, resume=True, watcher=stopped.watcher())
    assert packed_bytes(out) == packed_bytes(whole[0])


@pytest.mark.slow
def test_a_random_network_is_trained_first_and_teaches(asked: dict[str, Any], tmp_path) -> None:
    seen = Seen(stop="finetune")
    with pytest.raises(KeyboardInterrupt):
        irbin.compress(
            SPEC, tmp_path / "out", source_options=THREE, **asked, watcher=seen.watcher()
        )
    assert [one.name for one in seen.steps] == ["train", "train", "convert", "convert", "finetune"]
    network = irbin.open_network(tmp_path / "out" / "converted")
    assert network.source.spec == str(tmp_path / "out" / "float" / "best")
    assert network.source.trained
    untaught = Seen(stop="convert")
    with pytest.raises(KeyboardInterrupt):
        irbin.compress(
            SPEC,
            tmp_path / "as it is",
            source_options=THREE,
            train_float=False,
            **asked,
            watcher=untaught.watcher(),
        )
    assert [one.name for one in untaught.steps] == ["convert"]


@pytest.mark.slow
def test_its_folder_may_move_before_it_is_gone_on_with(
    asked: dict[str, Any], tmp_path: Path
) -> None:
    """The teacher lies in it."""
    given: dict[str, Any] = {"source_options": THREE, **asked, "overrides": {"epochs": 1}}
    seen = Seen(stop="finetune")
    with pytest.raises(KeyboardInterrupt):
        irbin.compress(SPEC, tmp_path / "old", **given, watcher=seen.watcher())
    (tmp_path / "old").rename(tmp_path / "new")
    seen = Seen(stop="evaluate")
    with pytest.raises(KeyboardInterrupt):
        irbin.compress(SPEC, tmp_path / "new", **given, resume=True, watcher=seen.watcher())
    assert [one.name for one in seen.steps if one.stood_there] == ["train", "convert"]
    assert (tmp_path / "new" / "packed").is_dir()


@pytest.mark.slow
def test_a_budget_keeps_layers_float(
    trained: Path, asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = importlib.import_module("irbin.compression.compress")
    few = partial(home.analyze, samples=9, calibrate=9, points=1)
    monkeypatch.setattr(home, "analyze", few)
    seen, out = Seen(stop="finetune"), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        irbin.compress(trained, out, **asked, budget="size=200kB", watcher=seen.watcher())
    plan = irbin.open_network(out / "converted").plan
    assert plan is not None
    packed = irbin.export(out / "converted", tmp_path / "packed")
    assert packed.total_bytes <= 200_000  # as the table says it, not of the tensors alone
    assert 0 < len(plan.binary_names) < 6
    record = began(out)
    assert record is not None
    assert record.proposed_keep == plan.options.keep


@pytest.mark.slow
def test_a_budget_that_no_network_keeps_is_told_and_begins_nothing(
    trained: Path, asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = "`max_drop=`: expected at least 9.00 points, which `a` alone costs on the sample, got 0"
    unmet = Analysis("s", "layer", "bytes", PlanOptions(), 1, 1, (), (), unmet=told)
    home = importlib.import_module("irbin.compression.compress")
    monkeypatch.setattr(home, "analyze", lambda *_, **__: unmet)
    with pytest.raises(PlanError, match=r"^`budget=`: expected at least 9\.00 points, which"):
        irbin.compress(trained, tmp_path / "out", **asked, budget="drop=0")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["compress.json"]
    monkeypatch.setattr(home, "analyze", lambda *_, **__: replace(unmet, interrupted=True))
    with pytest.raises(KeyboardInterrupt):
        irbin.compress(trained, tmp_path / "out", **asked, budget="drop=0", resume=True)


@pytest.mark.slow
def test_what_was_measured_and_is_damaged_is_measured_again(
    whole, trained: Path, asked: dict[str, Any]
) -> None:
    out, record, _ = whole
    file = out / "compress.json"
    value = json.loads(file.read_text())
    value["evaluations"]["packed"]["loss"] = None
    file.write_text(json.dumps(value))
    again = irbin.compress(trained, out, **asked, resume=True)
    assert again.evaluations["packed"].loss == record.evaluations["packed"].loss
    assert again.asked == record.asked
    keeping = replace(again, seconds=0, timing=None, export=None)
    assert keeping.outcomes.keys() == record.outcomes.keys()


@pytest.mark.slow
def test_a_run_is_over_once_its_last_state_says_so(whole, tmp_path: Path) -> None:
    out, _, _ = whole

    class Work:
        def __init__(self, place: Path) -> None:
            self.out = place

    assert run_is_over(Work(out), "run")  # type: ignore[arg-type]  # what it reads of it
    assert not run_is_over(Work(tmp_path), "run")  # type: ignore[arg-type]
    (tmp_path / "run" / "last").mkdir(parents=True)
    result = json.loads((out / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps(result))
    state = json.loads((out / "run" / "last" / "training.json").read_text())
    state["progress"]["epoch"] -= 1  # killed between the tables and `last`
    (tmp_path / "run" / "last" / "training.json").write_text(json.dumps(state))
    assert not run_is_over(Work(tmp_path), "run")  # type: ignore[arg-type]
