from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from irbin.errors import TrainingError, UsageError
from irbin.processes import ALONE, Group
from irbin.recipes.recipe import Recipe
from irbin.records.options import DataOptions, Preprocessing, SourceRecord
from irbin.records.training import EpochRecord
from irbin.runs.folder import begin_run, read_args, same_run, write_summary

SOURCE = SourceRecord("x", "timm:x", 3, Preprocessing(), class_names=("a", "b", "ç"))


def test_options_come_back_from_args_yaml(recipe: Recipe, tmp_path: Path) -> None:
    data = DataOptions(data_dir="images", batch_size=3)
    knobs = replace(recipe, scale=(0.5, 1.0), clip_grad=None, opt_kwargs={"betas": [0.9, 0.99]})
    begin_run(tmp_path / "a" / "run", knobs, data, SOURCE, ALONE, None, "cafe")
    assert read_args(tmp_path / "a" / "run") == (knobs, data)
    assert [path.name for path in (tmp_path / "a" / "run").iterdir()] == ["args.yaml"]


def test_an_empty_folder_may_be_used_and_a_file_may_not(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    begin_run(tmp_path / "empty", recipe, DataOptions(), SOURCE, ALONE, None, "cafe")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="expected a new folder for the run"):
        begin_run(tmp_path / "file", recipe, DataOptions(), SOURCE, ALONE, None, "cafe")
    with pytest.raises(UsageError, match="cannot make the run folder"):
        begin_run(tmp_path / "file" / "run", recipe, DataOptions(), SOURCE, ALONE, None, "cafe")


def test_what_may_change_when_a_run_goes_on(recipe: Recipe, tmp_path: Path) -> None:
    data = DataOptions(data_dir="here")
    begin_run(tmp_path / "run", recipe, data, SOURCE, ALONE, None, "cafe")
    moved = replace(data, data_dir="there", workers=7)
    free = replace(recipe, log_interval=9, checkpoint_hist=0, recovery_interval=5)
    assert same_run(tmp_path / "run", free, moved, ALONE) == (free, moved)
    changed = replace(data, val_split="test")
    with pytest.raises(TrainingError, match=r"was `epochs` 3, now 4; was `val_split` 'validation'"):
        same_run(tmp_path / "run", replace(recipe, epochs=4), changed, ALONE)


def test_a_step_may_be_cut_into_other_batches_and_processes(recipe: Recipe, tmp_path: Path) -> None:
    data = DataOptions(data_dir="here", batch_size=8)
    begin_run(tmp_path / "run", recipe, data, SOURCE, ALONE, None, "cafe")
    four = replace(data, batch_size=4)
    same_run(tmp_path / "run", replace(recipe, grad_accum_steps=2), four, ALONE)
    same_run(tmp_path / "run", recipe, four, Group(1, 2))
    same_run(tmp_path / "run", recipe, replace(four, batch_size=2), Group(3, 4))
    with pytest.raises(TrainingError, match=r"was 8 images a step, now 16 \(`batch_size` × `grad_"):
        same_run(tmp_path / "run", recipe, data, Group(0, 2))


def test_auto_stays_what_it_was_decided_to_be(recipe: Recipe, tmp_path: Path) -> None:
    decided = replace(recipe, amp="bfloat16", channels_last=True, compile=False)
    data = DataOptions(data_dir="here", cache="ram")
    begin_run(tmp_path / "run", decided, data, SOURCE, ALONE, None, "cafe")
    auto = replace(recipe, amp="auto", channels_last="auto", compile="auto")
    assert same_run(tmp_path / "run", auto, replace(data, cache="auto"), ALONE) == (decided, data)
    with pytest.raises(TrainingError, match=r"was `amp` 'bfloat16', now 'off'$"):
        same_run(tmp_path / "run", replace(auto, amp="off"), data, ALONE)
    with pytest.raises(TrainingError, match=r"was `cache` 'ram', now 'off'$"):
        same_run(tmp_path / "run", auto, replace(data, cache="off"), ALONE)
    same_run(tmp_path / "run", auto, replace(data, cache="device"), ALONE)


def test_a_run_of_an_earlier_version_goes_on(recipe: Recipe, tmp_path: Path) -> None:
    begin_run(tmp_path / "run", recipe, DataOptions(), SOURCE, ALONE, None, "cafe")
    file = tmp_path / "run" / "args.yaml"
    args = yaml.safe_load(file.read_text())
    newer = ("float_epochs", "recu", "final_weight_decay", "calibrate_images", "distill_blocks")
    for name in ("grad_accum_steps", "model_ema", "sync_bn", "checkpoint_hist", *newer):
        del args["recipe"][name]
    args["recipe"]["amp"] = None
    del args["processes"]
    file.write_text(yaml.safe_dump(args))
    assert read_args(tmp_path / "run") == (recipe, DataOptions())
    same_run(tmp_path / "run", recipe, DataOptions(), ALONE)


def test_args_say_where_and_from_what_the_run_was_made(recipe: Recipe, tmp_path: Path) -> None:
    begin_run(tmp_path / "run", recipe, DataOptions(), SOURCE, ALONE, {"a": 1}, "cafe")
    args = yaml.safe_load((tmp_path / "run" / "args.yaml").read_text())
    assert args["data_fingerprint"] == "cafe"
    assert (args["device"], args["processes"], args["command"]) == ("cpu", 1, {"a": 1})
    assert args["hardware"]["cores"] >= 1
    assert args["started"].endswith("+00:00")
    assert set(args) >= {"versions", "git", "threads", "source"}


@pytest.mark.parametrize("content", ["", "recipe: 3", "recipe: {lr: a}\ndata: {}", "a: [", "- 1"])
def test_damaged_args_are_told(content: str, tmp_path: Path) -> None:
    (tmp_path / "args.yaml").write_text(content)
    with pytest.raises(TrainingError, match="expected the options of a run in") as caught:
        read_args(tmp_path)
    assert "\n" not in str(caught.value)


def test_summary_has_a_row_an_epoch(tmp_path: Path) -> None:
    record = EpochRecord(0, 1.5, 30.0, 1.25, 40.0, 90.0, 0.1, 0.1, 10.0, 500.0, 2.0, waiting=0.25)
    write_summary(tmp_path, [record, replace(record, epoch=1, eval_top1=float("nan"))])
    assert (tmp_path / "summary.csv").read_text().splitlines() == [
        "epoch,train_loss,train_top1,eval_loss,eval_top1,eval_top5,lr,t,k,images_per_second,seconds,"
        "waiting,flip_ratio,never_flipped,weight_entropy,weight_gradient,activation_entropy,"
        "dead_channels,activation_gradient,statistics_gap,stage,steps",
        "0,1.5,30.0,1.25,40.0,90.0,0.1,0.1,10.0,500.0,2.0,0.25" + 8 * ",nan" + ",,0",
        "1,1.5,30.0,1.25,nan,90.0,0.1,0.1,10.0,500.0,2.0,0.25" + 8 * ",nan" + ",,0",
    ]
    write_summary(tmp_path, [])
    assert len((tmp_path / "summary.csv").read_text().splitlines()) == 1
