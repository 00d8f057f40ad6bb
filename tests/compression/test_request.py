"""What `compress` refuses before any work, and what it takes for another request."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import irbin
from irbin import DataOptions, SourceOptions
from irbin.demo.network import demo_net
from irbin.errors import DataError, PlanError, SourceError, UsageError
from tests.compression.conftest import SPEC, THREE

REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"data": DataOptions(data_dir="nowhere")}, DataError, "nowhere"),
    ({"budget": "size"}, UsageError, r"^`budget`: expected size=4MB, latency=5 \(ms\) or drop=2"),
    ({"budget": "size=100"}, UsageError, "^`budget=`: expected at least 86,348 bytes"),
    ({"budget": "size=1GB"}, UsageError, "^`budget=`: expected less than .* nothing needs to be"),
    ({"keep": ["nothing*"]}, PlanError, "nothing"),
    ({"recipe": "nonsense"}, UsageError, "^`recipe`: expected a name that"),
    ({"overrides": {"epoch": 1}}, UsageError, "`epoch`, which is no knob"),
    ({"device": "abacus"}, UsageError, "abacus"),
    ({"source": "zoo:resnet20-cifar10-1w1a"}, SourceError, "packed folder"),
    ({"source": "no_such_network"}, SourceError, "no_such_network"),
    ({"source": demo_net(3)}, UsageError, "a live network cannot go on"),
    ({"source_options": SourceOptions(num_classes=4)}, DataError, "expected 4 classes"),
]


@pytest.mark.parametrize(("given", "kind", "message"), REFUSED)
def test_what_cannot_be_is_told_before_any_work(
    images: DataOptions, tmp_path: Path, given: dict[str, Any], kind: type[Exception], message: str
) -> None:
    arguments = {"source": SPEC, "data": images, "source_options": THREE, **given}
    with pytest.raises(kind, match=message) as told:
        irbin.compress(out=tmp_path / "out", **arguments)
    assert "\n" not in str(told.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", [irbin.compress, irbin.finetune])
def test_a_class_that_one_split_lacks_is_named(verb, images: DataOptions, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    shutil.copytree(str(images.data_dir), folder)
    lost = sorted((folder / "val").iterdir())[-1]
    shutil.rmtree(lost)
    data = replace(images, data_dir=str(folder))
    with pytest.raises(DataError, match=f"^expected the same classes in .* but `{lost.name}` is"):
        verb(SPEC, tmp_path / "out", data=data, source_options=THREE)
    assert not (tmp_path / "out").exists()


def test_what_draws_the_report_is_asked_for_before_any_work(
    images: DataOptions, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UsageError, match="`compress` needs matplotlib, which is not installed"):
        irbin.compress("paper:resnet20", tmp_path / "out", data=images)
    assert not (tmp_path / "out").exists()


def test_it_runs_in_one_process(images: DataOptions, tmp_path: Path, monkeypatch) -> None:
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "0")):
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=r"^expected one process, got 2: `compress` runs in one"):
        irbin.compress(SPEC, tmp_path / "out", data=images)


def test_a_folder_of_something_else_stays_as_it_is(images: DataOptions, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    for resume in (False, True):
        with pytest.raises(UsageError, match="exists and is no folder of `compress`; choose"):
            irbin.compress(SPEC, tmp_path, data=images, resume=resume)
    assert (tmp_path / "mine.txt").read_text() == "precious"


@pytest.mark.slow
def test_the_source_is_no_place_for_it(
    trained: Path, images: DataOptions, asked: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match="exists and is no folder of `compress`"):
        irbin.compress(trained, trained, **asked)
    with pytest.raises(UsageError, match="lies in the source"):
        irbin.compress(trained, trained / "out", **asked)


@pytest.mark.slow
def test_a_network_that_is_converted_is_refused(whole, images: DataOptions, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is converted already; `irbin finetune` and"):
        irbin.compress(whole[0] / "converted", tmp_path / "out", data=images)


@pytest.mark.slow
def test_another_request_is_told_by_the_argument(
    whole, trained: Path, asked: dict[str, Any], tmp_path: Path
) -> None:
    out = whole[0]
    with pytest.raises(UsageError, match="exists: `resume=True` goes on with it, `out=` names"):
        irbin.compress(trained, out, **asked)
    others: list[tuple[dict[str, Any], str]] = [
        ({"overrides": {"epochs": 3}}, "`epochs` was 2, is 3"),
        ({"keep": ["stage1.conv1"]}, "`keep` was not given, is stage1.conv1"),
        ({"shortcut": "none"}, "`shortcut` was bireal, is not given"),
        ({"budget": "drop=3"}, "`budget` was not given, is drop 3"),
        ({"recipe": "quick"}, "`recipe` was not given, is quick"),
        ({"source_options": SourceOptions(mean=(0.1,))}, "`mean` was not given, is 0.1"),
        ({"data": replace(asked["data"], batch_size=8)}, "`batch_size` was 9, is 8"),
        ({"data": replace(asked["data"], data_dir=str(tmp_path))}, "`data_dir` was "),
        ({"train_float": True}, "`train_float` was not given, is True"),
    ]
    for given, told in others:
        with pytest.raises(UsageError, match="was begun with other arguments: ") as error:
            irbin.compress(trained, out, **{**asked, **given}, resume=True)
        assert told in str(error.value)
    shutil.copytree(trained, tmp_path / "other")
    with pytest.raises(UsageError, match=r"`source` was .*, is .*other"):
        irbin.compress(tmp_path / "other", out, **asked, resume=True)


@pytest.mark.slow
def test_how_images_are_read_and_reports_may_change(
    whole, trained: Path, asked: dict[str, Any]
) -> None:
    out, record, _ = whole
    freely = {
        **asked,
        "data": replace(asked["data"], workers=1),
        "overrides": {**asked["overrides"], "log_interval": 3},
    }
    assert irbin.compress(trained, out, **freely, resume=True).asked == record.asked
