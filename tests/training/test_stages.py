"""Runs of several stages: what is binary when, what begins anew, what counts, and resuming."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.optim.optimizer import register_optimizer_step_pre_hook

from irbin.binary.layers import binary_layers, phase_of
from irbin.errors import UsageError
from irbin.recipes.recipe import Recipe
from irbin.recipes.request import resolve_recipe
from irbin.records.options import DataOptions
from irbin.records.training import EpochRecord, StepRecord
from irbin.rewriting.network import Network
from irbin.runs.listener import Listener
from irbin.training.loop import finetune
from irbin.training.stages import stages_of

MakeNetwork = Callable[..., Network]


@pytest.fixture
def staged(recipe: Recipe) -> Recipe:
    """One epoch of floats, two of binary activations, two of all; three steps each."""
    return replace(recipe, epochs=5, float_epochs=1, activation_epochs=2, warmup_epochs=0.4)


def test_a_run_without_stages_is_one_that_holds_what_the_recipe_says(recipe: Recipe) -> None:
    (stage,) = stages_of(replace(recipe, cooldown_epochs=2))
    assert (stage.name, stage.begin, stage.n_epochs) == ("", 0, recipe.epochs + 2)
    assert stage.recipe == replace(recipe, cooldown_epochs=2)
    assert stage.binary_weights
    assert stage.binary_activations


def test_stages_follow_each_other_and_the_last_one_cools_down(recipe: Recipe) -> None:
    knobs = replace(
        recipe,
        epochs=9,
        float_epochs=2,
        activation_epochs=3,
        cooldown_epochs=1,
        weight_decay=0.1,
        final_weight_decay=0.0,
    )
    stages = stages_of(knobs)
    assert [(s.name, s.begin, s.n_epochs) for s in stages] == [
        ("float", 0, 2),
        ("activations", 2, 3),
        ("binary", 5, 5),
    ]
    assert [(s.binary_weights, s.binary_activations) for s in stages] == [
        (False, False),
        (False, True),
        (True, True),
    ]
    assert [s.recipe.weight_decay for s in stages] == [0.1, 0.1, 0.0]
    two = stages_of(replace(recipe, float_epochs=1))
    assert [(s.name, s.begin) for s in two] == [("float", 0), ("binary", 1)]


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        (
            {"float_epochs": 6, "activation_epochs": 4},
            r"^`float_epochs` and `activation_epochs`: expected less than `epochs` = 10 together, "
            r"got 10$",
        ),
        (
            {"float_epochs": 2, "warmup_epochs": 2},
            r"^`warmup_epochs`: expected less than the 2 of the shortest stage, got 2\.0$",
        ),
        (
            {"activation_epochs": 9, "warmup_epochs": 1},
            r"^`warmup_epochs`: expected less than the 1 of the shortest stage, got 1\.0$",
        ),
        (
            {"tau_min": 0.9, "tau_max": 0.8},
            r"^`tau_min`: expected at most `tau_max` = 0\.8, got 0\.9$",
        ),
        ({"tau_min": 0.5}, r"^`tau_min`: .*greater than 0\.5, got 0\.5$"),
        ({"tau_max": 1.0}, r"^`tau_max`: .*less than 1, got 1\.0$"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_values_that_cannot_be_meant(knobs: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve_recipe(None, knobs, converted=True)


@pytest.mark.slow
def test_each_stage_computes_and_anneals_as_it_says(
    make_network: MakeNetwork, data: DataOptions, staged: Recipe, tmp_path: Path
) -> None:
    network, steps, computed = make_network(), [], []
    layer = binary_layers(network.module)["conv"]
    assert isinstance(layer, nn.Module)
    seen: dict[str, torch.Tensor] = {}
    layer.register_forward_pre_hook(lambda _, args: seen.update(x=args[0]))

    def watch(step: StepRecord) -> None:
        steps.append(step)
        signs = layer.binary_input(seen["x"]).abs().unique().tolist() == [1.0]
        computed.append((signs, layer.used().weight is layer.weight))

    finetune(network, data, staged, tmp_path / "run", listener=Listener(report=watch))
    names = ["float"] * 3 + ["activations"] * 6 + ["binary"] * 6
    assert [step.stage for step in steps] == names
    expected = {"float": (False, True), "activations": (True, True), "binary": (True, False)}
    assert computed == [expected[name] for name in names]
    assert all(math.isnan(step.t) and math.isnan(step.k) for step in steps[:3])
    t = [0.1 * 100 ** ((i + 1) / 6) for i in range(6)] * 2
    assert [step.t for step in steps[3:]] == pytest.approx(t, rel=1e-6)
    assert phase_of(network.module).binary_weights
    assert phase_of(network.module).binary_activations


@pytest.mark.slow
def test_schedule_and_optimizer_begin_anew_and_the_decay_changes(
    make_network: MakeNetwork, data: DataOptions, staged: Recipe, tmp_path: Path
) -> None:
    """A stage's learning rates, used and told, are those of a run of its length."""
    knobs = replace(staged, weight_decay=0.1, final_weight_decay=0.0, lr=0.01)

    def rates(recipe: Recipe, name: str) -> list[tuple[float, float]]:
        used: list[float] = []
        told: list[float] = []
        hook = register_optimizer_step_pre_hook(
            lambda optimizer, *_: used.append(optimizer.param_groups[0]["lr"])
        )
        out = tmp_path / name
        finetune(
            make_network(),
            data,
            recipe,
            out,
            listener=Listener(report=lambda step: told.append(step.lr)),
        )
        hook.remove()
        return list(zip(used, told, strict=True))

    whole = rates(knobs, "run")
    alone = [rates(stage.recipe, stage.name) for stage in stages_of(knobs)]
    assert whole == [pair for part in alone for pair in part]
    assert len({used for used, _ in whole[3:9]}) == 6
    saved = json.loads((tmp_path / "run/last/training.json").read_text())
    assert '"weight_decay", 0.1' not in json.dumps(saved["optimizer"])
    kept = json.loads((tmp_path / "run/recent/epoch-3/training.json").read_text())
    assert '"weight_decay", 0.1' in json.dumps(kept["optimizer"])


@pytest.mark.slow
def test_the_first_stage_trains_as_the_float_network_does(
    make_network: MakeNetwork, data: DataOptions, staged: Recipe, tmp_path: Path
) -> None:
    ours = finetune(make_network(), data, staged, tmp_path / "staged").epochs[0]
    alone = stages_of(staged)[0].recipe
    (theirs,) = finetune(make_network(binary=False), data, alone, tmp_path / "float").epochs
    assert (ours.train_loss, ours.eval_loss) == (theirs.train_loss, theirs.eval_loss)


def test_a_stage_forgets_the_average_of_the_one_before(
    make_network: MakeNetwork, data: DataOptions, recipe: Recipe, tmp_path: Path
) -> None:
    """After its first step, the only one here, the average is the network."""
    knobs = replace(recipe, epochs=2, float_epochs=1, model_ema=True)
    finetune(make_network(), replace(data, batch_size=30), knobs, tmp_path / "run")
    last, best = (load_file(tmp_path / f"run/{f}/model.safetensors") for f in ("last", "best"))
    weights = [name for name in last if name.endswith(("weight", "bias"))]
    assert all(torch.equal(last[name], best[name]) for name in weights)


@pytest.mark.slow
def test_the_average_is_evaluated_in_the_stage_of_its_network(
    make_network: MakeNetwork, data: DataOptions, staged: Recipe, tmp_path: Path
) -> None:
    same = replace(staged, model_ema=True, model_ema_decay=0.0)
    runs = [
        finetune(make_network(), data, knobs, tmp_path / name)
        for name, knobs in (("averaged", same), ("plain", staged))
    ]
    losses = [[epoch.eval_loss for epoch in run.epochs] for run in runs]
    assert losses[0] == losses[1]


@pytest.mark.slow
def test_a_stage_is_compiled_once(make_network: MakeNetwork) -> None:
    module = make_network().module.eval()
    phase, images = phase_of(module), torch.randn(4, 3, 8, 8)
    counter = CompileCounter()
    fast = torch.compile(module, backend=counter)
    for stage in [(False, False), (False, True), (True, True)] * 2:
        phase.set_stage(*stage)
        for progress in (0.0, 0.5):
            phase.set_progress(progress)
            assert torch.equal(fast(images), module(images))
    assert counter.frame_count == 3


@pytest.mark.slow
def test_only_the_last_stage_counts(
    make_network: MakeNetwork, data: DataOptions, staged: Recipe, tmp_path: Path
) -> None:
    out, told = tmp_path / "run", []

    def look(epoch: EpochRecord) -> None:
        told.append(epoch)
        value = json.loads((out / "run.json").read_text())
        if len(told) <= 3:
            assert (value["best_epoch"], value["last_top1"]) == (-1, None)
            assert not (out / "best").exists()

    record = finetune(make_network(), data, staged, out, listener=Listener(on_epoch=look))
    assert record.best_epoch in (3, 4)
    assert record.best_top1 == max(epoch.eval_top1 for epoch in record.epochs[3:])
    assert all(math.isfinite(epoch.eval_top1) for epoch in record.epochs)
    rows = list(csv.DictReader((out / "summary.csv").read_text().splitlines()))
    assert [row["stage"] for row in rows] == ["float"] + ["activations"] * 2 + ["binary"] * 2
    flips = [epoch.flip_ratio for epoch in record.epochs]
    assert [math.isnan(flip) for flip in flips] == [True] * 3 + [False] * 2
    usable = [epoch.activation_gradient for epoch in record.epochs]
    assert [math.isnan(share) for share in usable] == [True] + [False] * 4


@pytest.mark.slow
@pytest.mark.parametrize("n_steps", [2, 3, 4, 9, 10], ids="after_{}".format)
def test_resuming_around_the_stages_ends_leaves_the_same_bytes(
    n_steps: int, make_network: MakeNetwork, data: DataOptions, staged: Recipe, tmp_path: Path
) -> None:
    hard = replace(
        staged,
        model_ema=True,
        mixup=0.3,
        recu=True,
        weight_decay=0.1,
        final_weight_decay=0.0,
        calibrate_images=20,
    )
    finetune(make_network(), data, hard, tmp_path / "whole")
    out, seen = tmp_path / "cut", []

    def stop(step: StepRecord) -> None:
        seen.append(step)
        if len(seen) == n_steps:
            raise KeyboardInterrupt

    cut = make_network()
    assert finetune(cut, data, hard, out, listener=Listener(report=stop)).interrupted
    assert phase_of(cut.module).binary_weights
    finetune(make_network(seed=9), data, hard, out, resume=True)
    for file in ("last/model", "last/training", "best/model"):
        left, right = (tmp_path / run / f"{file}.safetensors" for run in ("whole", "cut"))
        assert left.read_bytes() == right.read_bytes()
    assert (out / "diagnostics.csv").read_text() == (tmp_path / "whole/diagnostics.csv").read_text()


@pytest.mark.slow
def test_weights_held_for_a_step_of_several_batches_follow_the_stages(
    make_network: MakeNetwork, data: DataOptions, staged: Recipe, tmp_path: Path
) -> None:
    several, small = replace(staged, grad_accum_steps=2), replace(data, batch_size=4)
    ours = finetune(make_network(), small, several, tmp_path / "held").epochs
    alone = stages_of(several)[0].recipe
    (theirs,) = finetune(make_network(binary=False), small, alone, tmp_path / "float").epochs
    assert ours[0].train_loss == pytest.approx(theirs.train_loss, rel=1e-5)
    assert [epoch.stage for epoch in ours][::2] == ["float", "activations", "binary"]


def test_what_cannot_have_stages_is_refused(
    make_network: MakeNetwork, data: DataOptions, staged: Recipe, tmp_path: Path
) -> None:
    expected = "`float_epochs` and `activation_epochs`: expected a converted network, got a float"
    with pytest.raises(UsageError, match=expected):
        finetune(make_network(binary=False), data, staged, tmp_path / "float")
    network = make_network()
    layer = network.module.conv
    layer.method = layer.method._replace(binary_activations=False)
    expected = r"^`activation_epochs`: expected a network with binary .* \(1w1a\), got 1w32a$"
    with pytest.raises(UsageError, match=expected):
        finetune(network, data, staged, tmp_path / "weights")
