from __future__ import annotations

import csv
import math
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from torch import nn

from irbin import allocation
from irbin.errors import DataError, TrainingError, UsageError
from irbin.recipes.recipe import Recipe
from irbin.records.options import DataOptions
from irbin.records.training import EpochRecord, StepRecord
from irbin.rewriting.network import Network
from irbin.runs.listener import Listener
from irbin.runs.tables import read_classes
from irbin.training.loop import finetune
from tests.test_allocation import FakeLibc

MakeNetwork = Callable[..., Network]


@pytest.mark.slow
def test_float_network_learns(
    make_network: MakeNetwork, data: DataOptions, recipe: Recipe, tmp_path: Path
) -> None:
    float_recipe = replace(recipe, epochs=15, opt="sgd", lr=0.1, crop_padding=1)
    record = finetune(make_network(binary=False), data, float_recipe, tmp_path / "run")
    assert record.epochs[-1].train_loss < 0.7 * record.epochs[0].train_loss
    assert record.best_top1 > 60
    assert not record.interrupted
    assert math.isnan(record.epochs[-1].t)


@pytest.mark.slow
def test_binary_network_learns_and_writes_its_run_folder(
    make_network: MakeNetwork, data: DataOptions, recipe: Recipe, tmp_path: Path
) -> None:
    network, out = make_network(), tmp_path / "run"
    before = network.module.conv.weight.detach().clone()
    record = finetune(network, data, replace(recipe, lr=0.02), out, inputs={"source": "tiny"})
    assert record.epochs[-1].train_loss < record.epochs[0].train_loss
    assert not torch.equal(network.module.conv.weight, before)
    assert sorted(path.name for path in out.iterdir()) == [
        "args.yaml",
        "best",
        "classes.csv",
        "diagnostics.csv",
        "last",
        "recent",
        "run.json",
        "summary.csv",
    ]
    for name in ("best", "last"):
        assert {"config.json", "model.safetensors"} <= {p.name for p in (out / name).iterdir()}
    args = yaml.safe_load((out / "args.yaml").read_text())
    assert args["recipe"]["lr"] == 0.02
    assert args["data"]["batch_size"] == 8
    assert args["command"] == {"source": "tiny"}
    assert set(args["versions"]) == {"irbin", "torch", "timm", "numpy", "python"}
    rows = list(csv.DictReader((out / "summary.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert {"train_loss", "eval_loss", "eval_top1", "eval_top5", "lr", "t", "k"} <= set(rows[0])
    assert float(rows[-1]["eval_top1"]) == record.epochs[-1].eval_top1
    assert record.best_top1 == max(epoch.eval_top1 for epoch in record.epochs)
    classes = read_classes(out)
    assert [one.name for one in classes] == ["dark", "light", "striped"]  # alike in number
    assert sum(one.best for one in classes) / 3 == pytest.approx(record.best_top1)
    assert sum(one.last for one in classes) / 3 == pytest.approx(record.epochs[-1].eval_top1)


@pytest.mark.slow
def test_ede_moves_with_the_global_step_and_ends_at_t_max(
    make_network: MakeNetwork, data: DataOptions, recipe: Recipe, tmp_path: Path
) -> None:
    network, seen = make_network(), []
    finetune(
        network,
        data,
        recipe,
        tmp_path / "run",
        listener=Listener(report=lambda step: seen.append(step)),
    )
    assert len(seen) == 9  # 3 epochs of 3 whole batches
    expected = [0.1 * 100 ** ((i + 1) / 9) for i in range(9)]
    assert [step.t for step in seen] == pytest.approx(expected, rel=1e-6)
    assert [step.k for step in seen] == pytest.approx([max(1 / t, 1) for t in expected], rel=1e-6)
    assert float(network.module.ede.t) == pytest.approx(10)
    assert [(s.epoch, s.step, s.n_steps) for s in seen[2:5]] == [(0, 3, 3), (1, 1, 3), (1, 2, 3)]
    assert seen[-1].seconds_left == 0.0 or seen[-1].seconds_left < seen[0].seconds_left + 10


@pytest.mark.slow
def test_learning_rate_warms_up_and_falls_by_step(
    make_network: MakeNetwork, data: DataOptions, recipe: Recipe, tmp_path: Path
) -> None:
    rates: list[float] = []
    warm = replace(recipe, warmup_epochs=1.0, lr=0.01)
    finetune(
        make_network(),
        data,
        warm,
        tmp_path / "run",
        listener=Listener(report=lambda step: rates.append(step.lr)),
    )
    assert rates[0] < rates[1] < rates[2] == max(rates)
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert rates[-1] == pytest.approx(0, abs=1e-9)


@pytest.mark.slow
def test_a_teacher_changes_what_is_learned(
    make_network: MakeNetwork, data: DataOptions, recipe: Recipe, tmp_path: Path
) -> None:
    weights = []
    for name, teacher in (("alone", None), ("taught", make_network(binary=False, seed=7).module)):
        network = make_network()
        finetune(network, data, replace(recipe, distill=True), tmp_path / name, teacher=teacher)
        weights.append(network.module.conv.weight.detach().clone())
    assert not torch.equal(*weights)
    assert teacher is not None
    assert not teacher.training


def test_a_teacher_of_another_width_is_refused(
    make_network: MakeNetwork, data: DataOptions, recipe: Recipe, tmp_path: Path
) -> None:
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    with pytest.raises(UsageError, match=r"`teacher`: expected outputs of shape \(8, 3\)"):
        finetune(
            make_network(), data, replace(recipe, distill=True), tmp_path / "run", teacher=teacher
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    "knobs",
    [
        {"mixup": 0.5, "smoothing": 0.1},
        {"reprob": 1.0},
        {"clip_grad": 0.1},
        {"amp": "bfloat16"},
        {"channels_last": True},
        {"aa": "rand-m5"},
        {"crop_padding": 0},
        {"latent_lr_scale": 0.1},
        {"opt": "sgd"},
        {"ede_scale": "even"},
        {"input_spread": "image"},
        {"norm_lr_scale": 0.1},
        {"cutmix": 1.0, "mixup_off_epoch": 1},
    ],
    ids=lambda knobs: next(iter(knobs)),
)
def test_every_kind_of_knob_changes_the_result(
    knobs: dict[str, object],
    make_network: MakeNetwork,
    data: DataOptions,
    recipe: Recipe,
    tmp_path: Path,
) -> None:
    short = replace(recipe, epochs=2)
    networks = [make_network(), make_network()]
    plain = finetune(networks[0], data, short, tmp_path / "plain")
    record = finetune(networks[1], data, replace(short, **knobs), tmp_path / "changed")
    assert math.isfinite(record.epochs[-1].train_loss)
    if "channels_last" not in knobs:  # another memory format computes the same
        assert not torch.equal(networks[0].module.conv.weight, networks[1].module.conv.weight)
    assert math.isnan(record.epochs[0].train_top1) == ("mixup" in knobs or "cutmix" in knobs)
    assert not math.isnan(plain.epochs[0].train_top1)


@pytest.mark.slow
def test_what_training_sets_in_the_phase_ends_with_it(
    make_network: MakeNetwork, data: DataOptions, recipe: Recipe, tmp_path: Path
) -> None:
    network, seen = make_network(), []
    phase = network.module.ede

    def look(_step: StepRecord) -> None:
        seen.append((phase.spreads_inputs, phase.clamps, phase.scale))

    knobs = replace(recipe, epochs=1, input_spread="image", recu=True, ede_scale="even")
    finetune(network, data, knobs, tmp_path / "run", listener=Listener(report=look))
    assert set(seen) == {(True, True, "even")}
    assert (phase.spreads_inputs, phase.clamps) == (False, False)


@pytest.mark.slow
def test_evaluation_happens_every_val_interval_and_at_the_end(
    make_network: MakeNetwork, data: DataOptions, recipe: Recipe, tmp_path: Path
) -> None:
    record = finetune(make_network(), data, replace(recipe, val_interval=2), tmp_path / "run")
    assert [math.isnan(epoch.eval_top1) for epoch in record.epochs] == [True, False, False]
    assert record.best_epoch in (1, 2)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_and_keeps_what_was_saved(
    make_network: MakeNetwork, data: DataOptions, recipe: Recipe, tmp_path: Path
) -> None:
    network, out = make_network(), tmp_path / "run"

    def spoil(epoch: EpochRecord) -> None:
        with torch.no_grad():
            network.module.fc.weight.fill_(math.nan)

    with pytest.raises(TrainingError, match=r"epoch 1 at step 0 of 3: .*`fc\.weight`.*`lr=`"):
        finetune(network, data, recipe, out, listener=Listener(on_epoch=spoil))
    again = make_network()
    record = finetune(again, data, recipe, out, resume=True)
    assert len(record.epochs) == 3


@pytest.mark.slow
def test_ctrl_c_ends_after_the_step_and_saves(
    make_network: MakeNetwork, data: DataOptions, recipe: Recipe, tmp_path: Path
) -> None:
    steps: list[StepRecord] = []

    def press(step: StepRecord) -> None:
        steps.append(step)
        if len(steps) == 5:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    record = finetune(
        make_network(), data, recipe, tmp_path / "run", listener=Listener(report=press)
    )
    assert record.interrupted
    assert len(steps) == 5
    assert len(record.epochs) == 1
    assert (tmp_path / "run" / "last" / "training.json").is_file()
    assert signal.getsignal(signal.SIGINT) is before


def test_an_existing_folder_is_not_written_over(
    make_network: MakeNetwork, data: DataOptions, recipe: Recipe, tmp_path: Path
) -> None:
    (tmp_path / "note").write_text("mine")
    with pytest.raises(UsageError, match=r"expected a new folder for the run.*exists"):
        finetune(make_network(), data, recipe, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


def test_a_network_that_cannot_be_saved_is_told_before_training(
    make_network: MakeNetwork, data: DataOptions, recipe: Recipe, tmp_path: Path
) -> None:
    network = make_network()
    live = Network(network.module, replace(network.source, architecture="live:Tiny"), network.plan)
    steps: list[StepRecord] = []
    with pytest.raises(Exception, match="nothing says how to build"):
        finetune(live, data, recipe, tmp_path / "run", listener=Listener(report=steps.append))
    assert steps == []
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("least", [9, 10])
def test_a_run_of_few_steps_is_told_before_the_first(
    make_network: MakeNetwork,
    data: DataOptions,
    recipe: Recipe,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    least: int,
) -> None:
    monkeypatch.setattr("irbin.training.loop.FEW_STEPS", least)
    told: list[list[str]] = []
    listener = Listener(report=lambda _: told.append(list(caplog.messages)))
    finetune(make_network(), data, recipe, tmp_path / "run", listener=listener)
    few = [
        "3 epochs of 3 steps, each of 8 images, are too few to learn much; a smaller `batch_size=` "
        "and more epochs make more steps"
    ]
    assert told[0] == (few if least == 10 else [])


def test_a_corrupt_image_stops_training_with_its_name(
    make_network: MakeNetwork, data: DataOptions, recipe: Recipe, tmp_path: Path
) -> None:
    for split in ("train", "val"):
        for name in ("dark", "light", "striped"):
            (tmp_path / "images" / split / name).mkdir(parents=True)
            for index in range(3):
                Image.new("RGB", (8, 8)).save(tmp_path / "images" / split / name / f"{index}.png")
    damaged = tmp_path / "images" / "train" / "light" / "1.png"
    damaged.write_bytes(damaged.read_bytes()[:40])
    spoiled = replace(data, data_dir=str(tmp_path / "images"))
    with pytest.raises(DataError, match=r"^expected images that can be decoded, got .*1\.png: "):
        finetune(make_network(), spoiled, recipe, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("split", "n_batches", "image"),
    [("train", 1, 3), ("val", 1, 3), ("train", 2, 3), ("train", 2, 5)],
)
def test_a_repaired_image_lets_the_run_go_on_as_if_nothing_had_been(
    make_network: MakeNetwork,
    data: DataOptions,
    recipe: Recipe,
    tmp_path: Path,
    split: str,
    n_batches: int,
    image: int,
) -> None:
    shutil.copytree(data.data_dir, tmp_path / "images")
    # decoded at once, the image would be told before the first step
    data = replace(data, data_dir=str(tmp_path / "images"), cache="off", batch_size=8 // n_batches)
    recipe = replace(recipe, grad_accum_steps=n_batches)
    whole = finetune(make_network(), data, recipe, tmp_path / "whole")
    file = sorted((tmp_path / "images" / split).rglob("*.png"))[image]
    content = file.read_bytes()
    file.write_bytes(content[:40])
    with pytest.raises(DataError, match="expected images that can be decoded"):
        finetune(make_network(), data, recipe, tmp_path / "run")
    file.write_bytes(content)
    resumed = finetune(make_network(seed=1), data, recipe, tmp_path / "run", resume=True)
    assert [e.train_loss for e in resumed.epochs] == [e.train_loss for e in whole.epochs]
    assert [e.eval_loss for e in resumed.epochs] == [e.eval_loss for e in whole.epochs]
    weights = "last/model.safetensors"
    assert (tmp_path / "run" / weights).read_bytes() == (tmp_path / "whole" / weights).read_bytes()


def test_unknown_optimizer_is_a_usage_error(
    make_network: MakeNetwork, data: DataOptions, recipe: Recipe, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"`opt`: expected one of timm's.*nearest: .*`adamw`"):
        finetune(make_network(), data, replace(recipe, opt="adamww"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_a_step_frees_is_kept_for_the_next(
    make_network: MakeNetwork,
    data: DataOptions,
    recipe: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    libc, kept = FakeLibc(), set()
    monkeypatch.setattr(allocation, "_tunable", lambda: libc)
    once = replace(recipe, epochs=1)
    finetune(
        make_network(),
        data,
        once,
        tmp_path / "run",
        listener=Listener(report=lambda _record: kept.add(libc.keeps)),
    )
    assert kept == {True}
    assert not libc.keeps
    assert libc.n_trims == 1  # the evaluation within hands nothing back


@pytest.mark.slow
def test_an_epoch_computes_nothing_in_float64(
    make_network: MakeNetwork, data: DataOptions, recipe: Recipe, tmp_path: Path, no_float64
) -> None:
    short = replace(recipe, epochs=1, opt="adamw", color_jitter=0.3, crop_padding=1)
    with no_float64:  # as Apple's GPUs have none
        finetune(make_network(), data, short, tmp_path / "run")
