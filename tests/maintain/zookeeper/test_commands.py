"""The lines are read again by the real command line: what it makes of them is what was run."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from docs.maintain.zookeeper.begun import BegunRun, runs_behind
from docs.maintain.zookeeper.commands import commands, flags, name_today
from irbin.cli.recipe_options import RecipeFlags
from irbin.planning.plan import make_plan
from irbin.recipes import file as recipe_file
from irbin.recipes.recipe import Recipe
from irbin.recipes.request import recipe_of, resolve_recipe
from irbin.records.json import to_json
from irbin.records.options import DataOptions, SourceOptions
from irbin.records.plan import Plan, PlanOptions
from irbin.sources.spec import load_source
from irbin.tracing.trace import trace
from tests.conftest import as_typed

Change = Callable[[Path, Callable[[dict[str, Any]], None]], None]
PAPER = load_source("paper:resnet20", SourceOptions())
OWN = {"log_interval", "checkpoint_hist", "recovery_interval"}
AUTO = {"amp", "channels_last", "compile"}


def plan_with(**options: Any) -> Plan:
    return make_plan(trace(PAPER.module, (3, 32, 32)), PlanOptions(**options))


PLAIN = plan_with()


def begun(
    plan: Plan | None = None, knobs: Mapping[str, Any] | None = None, **changes: Any
) -> BegunRun:
    """A run that nobody made: of the paper's ResNet-20, with the knobs that its recipe gives."""
    command = {"source": "paper:resnet20", "teacher": None, "convert": None, "overrides": {}}
    command |= {key: changes.pop(key) for key in list(changes) if key in (*command, "recipe")}
    recipe = command.get("recipe")
    recipe = recipe if recipe in recipe_file.recipe_names() else None
    ran = {**to_json(resolve_recipe(recipe, {}, plan is not None)), **(knobs or {})}
    folder, data = Path("/home/me/runs/mine"), DataOptions(data_dir="/home/me/data/cifar10")
    args = {
        "command": command,
        "recipe": ran,
        "source": to_json(PAPER.source),
        "data": to_json(recipe_file.read_recipe(recipe).batched(data)),
        **changes,
    }
    return BegunRun(folder, args, plan, {folder: "mine"})


def lines(run: BegunRun) -> list[str]:
    return [shlex.join(words) for words in commands(run)]


def knobs_of(line: str, binary: bool) -> Recipe:
    """The knobs that `irbin finetune` would train with."""
    command, given = as_typed(line)
    assert command == "finetune"
    turned = RecipeFlags(**{f.name: given[f.name] for f in fields(RecipeFlags)}).overrides()
    return resolve_recipe(given["recipe"], turned, binary)


def apart(one: Recipe, two: Recipe, without: set[str]) -> dict[str, Any]:
    a, b = asdict(one), asdict(two)
    return {name: (a[name], b[name]) for name in a if a[name] != b[name] and name not in without}


def test_a_float_run() -> None:
    run = begun(recipe="float-cifar10", knobs={"epochs": 20, "seed": 1, "lr": 0.2})
    assert lines(run) == [
        "irbin finetune paper:resnet20 --recipe float-cifar10 --data-dir data/cifar10 "
        "--epochs 20 --lr 0.2 --seed 1 -o mine"
    ]


def test_a_run_that_its_recipe_converted() -> None:
    name = "quick-resnet20-cifar10"
    options = recipe_file.read_recipe(name).plan_options
    plan = plan_with(**vars(options))
    run = begun(plan, recipe=name, convert=to_json(options))
    assert lines(run) == [
        f"irbin finetune paper:resnet20 --recipe {name} --data-dir data/cifar10 -o mine"
    ]


def test_a_recipe_that_converts_otherwise_today_is_no_reason_to() -> None:
    plan = plan_with(shortcut="bireal", keep=("layer1.*",))
    run = begun(plan, recipe="quick-resnet20-cifar10", convert=to_json(plan.options))
    first, second = lines(run)
    assert first == (
        "irbin convert paper:resnet20 --shortcut bireal --keep 'layer1.*' -o mine-converted"
    )
    assert second.startswith("irbin finetune mine-converted --recipe quick-resnet20-cifar10 ")


def test_a_run_of_before_a_recipe_was_renamed() -> None:
    """As the first entry's: its recipe's name is gone, later knobs are missing, `convert` too."""
    run = begun(plan_with(shortcut="bireal"), recipe="paper-resnet20", source="runs/scratch")
    today = to_json(resolve_recipe("paper-resnet20-cifar10", {"epochs": 40}, True))
    run.args["recipe"] = {k: v for k, v in today.items() if k not in ("recu", "calibrate_images")}
    del run.args["command"]["convert"]
    assert name_today(run) == "paper-resnet20-cifar10"
    assert lines(run) == [
        "irbin convert paper:resnet20 --shortcut bireal -o mine-converted",
        "irbin finetune mine-converted --recipe paper-resnet20-cifar10 --data-dir data/cifar10 "
        "--epochs 40 -o mine",
    ]


@pytest.mark.parametrize(("plan", "name"), [(None, "float"), (PLAIN, "default")])
def test_without_a_recipe(plan: Plan | None, name: str) -> None:
    run = begun(plan)
    assert name_today(run) == name
    assert "--recipe" not in lines(run)[-1]


def test_a_file_of_the_users_is_not_named(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("lr: 0.5")
    run = begun(recipe=str(tmp_path / "mine.yaml"), knobs={"lr": 0.5})
    assert lines(run) == ["irbin finetune paper:resnet20 --data-dir data/cifar10 --lr 0.5 -o mine"]


def test_where_no_flag_takes_a_recipes_knob_back_none_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "tuned.yaml").write_text("aa: rand-m9-mstd0.5\nlr: 0.5\n")
    monkeypatch.setattr(recipe_file, "_folder", lambda: tmp_path)
    monkeypatch.setattr("docs.maintain.zookeeper.commands.recipe_names", lambda: ("tuned",))
    source = Path(recipe_file.__file__).parent / "float.yaml"
    (tmp_path / "float.yaml").write_text(source.read_text())
    recipe_file.recipe_names.cache_clear()
    try:
        ran = to_json(resolve_recipe("tuned", {"aa": None}, False))
        (line,) = lines(begun(recipe="tuned", knobs=ran))
        assert "--recipe" not in line
        assert knobs_of(line, False) == recipe_of(ran)
    finally:
        recipe_file.recipe_names.cache_clear()


def test_a_machines_own_knobs_are_told_only_where_they_were_asked_for() -> None:
    knobs = {"amp": "off", "compile": False, "channels_last": False, "checkpoint_hist": 9}
    (line,) = lines(begun(knobs=knobs))
    assert line == "irbin finetune paper:resnet20 --data-dir data/cifar10 -o mine"
    (line,) = lines(begun(knobs=knobs, overrides={"amp": "off", "compile": False}))
    assert line.endswith(" --amp off --no-compile -o mine")


@pytest.mark.parametrize(
    ("ran", "of_recipe", "words"),
    [
        (None, None, ""),
        (128, None, ""),
        (64, None, "--batch-size 64 "),
        (64, 64, ""),
        (128, 64, "--batch-size 128 "),
        (None, 64, "--batch-size 128 "),
    ],
)
def test_a_batch_is_told_where_the_recipe_has_another(
    monkeypatch: pytest.MonkeyPatch, ran: int | None, of_recipe: int | None, words: str
) -> None:
    """None is how a run of before recipes had one, or a file, says 128."""
    name = "float-cifar10"
    file = recipe_file.RecipeFile(name, batch_size=of_recipe)
    monkeypatch.setattr("docs.maintain.zookeeper.commands.read_recipe", lambda _: file)
    data = to_json(DataOptions(data_dir="d", batch_size=ran))
    assert lines(begun(recipe=name, data=data)) == [
        f"irbin finetune paper:resnet20 --recipe {name} --data-dir d {words}-o mine"
    ]


def test_images_and_processes() -> None:
    data = DataOptions(
        dataset="torch/cifar10",
        data_dir="~/x",
        batch_size=64,
        val_split="test",
        cache="off",
        workers=9,
        train_num_samples=7,
    )
    (line,) = lines(begun(data=to_json(data), processes=4))
    assert line == (
        "torchrun --nproc-per-node 4 -m irbin finetune paper:resnet20 --data-dir x --dataset "
        "torch/cifar10 --val-split test --batch-size 64 --train-num-samples 7 --cache off -o mine"
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"num_classes": 100}, "--num-classes 100 --input-size 3 32 32"),
        (
            {"spec": "resnet18", "weights": "resnet18.a1_in1k", "num_classes": 10},
            "--num-classes 10 --input-size 3 32 32",
        ),
        (
            {"spec": "resnet18", "model_kwargs": {"drop_rate": 0.1}},
            "--model-kwargs drop_rate=0.1 --num-classes 10 --input-size 3 32 32 --no-pretrained",
        ),
        (
            {"spec": "module:a.b:c", "model_kwargs": {"num_classes": 3}},
            "--model-kwargs num_classes=3 --input-size 3 32 32",
        ),
        ({"spec": "zoo:a", "num_classes": 100}, ""),
        ({"spec": "/gone/net", "num_classes": 100}, ""),
    ],
    ids=lambda value: str(value)[:40],
)
def test_how_a_name_was_opened(changes: dict[str, Any], words: str) -> None:
    run = begun(PLAIN, source="gone")
    run.args["source"].update(changes)
    first, second = lines(run)
    spec = Path(run.args["source"]["spec"]).name
    assert first == " ".join(filter(None, ["irbin convert", spec, words, "-o mine-converted"]))
    assert as_typed(first)[1]["source"] == spec
    assert words == "" or words not in second


def test_first_weights_have_the_runs_seed() -> None:
    first, _ = lines(begun(PLAIN, knobs={"seed": 3}))
    assert first == "irbin convert paper:resnet20 --seed 3 -o mine-converted"


def test_runs_are_called_as_they_are_written(runs: Path) -> None:
    """What one command writes, the next one reads."""
    *_, float_line = lines(runs_behind(runs / "float")[-1])
    assert " -o float" in float_line
    assert "--seed 7" in float_line
    convert, way = lines(runs_behind(runs / "way")[-1])
    assert convert == "irbin convert float --shortcut bireal -o way-converted"
    assert way.startswith("irbin finetune way-converted --data-dir ")
    assert "--lr 0.002" in way
    convert, step = lines(runs_behind(runs / "step")[-1])
    assert convert == "irbin convert float --activation prelu -o step-converted"
    assert step.startswith("irbin finetune step-converted --teacher float/last --data-dir ")


def test_a_run_that_began_binary_is_not_converted_again(runs: Path, change: Change) -> None:
    change(runs / "step", lambda args: args["command"].update(source=str(runs / "way")))
    (line,) = lines(runs_behind(runs / "step")[-1])
    assert line.startswith("irbin finetune way --teacher float/last ")


AMOUNTS = st.floats(0.0, 100.0, allow_nan=False).map(lambda x: float(f"{x:.3g}"))
SHARES = st.floats(0.0, 1.0).map(lambda x: float(f"{x:.3g}"))
TURNED = st.fixed_dictionaries(
    {},
    optional={
        "epochs": st.integers(50, 500),
        "seed": st.integers(0, 10**9),
        "opt": st.just("lamb"),
        "lr": st.floats(1e-6, 10.0),
        "weight_decay": AMOUNTS,
        "latent_weight_decay": AMOUNTS,
        "opt_kwargs": st.just({"betas": [0.9, 0.99], "fused": True}),
        "clip_grad": st.just(1.5),
        "sched": st.sampled_from(["multistep", "constant"]),
        "hflip": SHARES,
        "decay_milestones": st.lists(AMOUNTS, min_size=1, max_size=3),
        "recu": st.booleans(),
        "scale": st.tuples(SHARES, SHARES).map(lambda pair: sorted(pair)),
        "ratio": st.just([0.5, 2.0]),
        "model_ema": st.booleans(),
        "model_ema_warmup": st.booleans(),
        "distill": st.booleans(),
        "crop_padding": st.sampled_from([0, 1, "auto"]),
        "aa": st.just("rand-m9-mstd0.5"),
        "final_weight_decay": AMOUNTS,
        "sync_bn": st.booleans(),
        "activation_epochs": st.sampled_from([0, 2, 9]),
        "ede_scale": st.just("even"),
        "input_spread": st.just("image"),
        "norm_lr_scale": st.just(0.25),
        "remode": st.sampled_from(["const", "rand"]),
        "calibrate_images": st.integers(0, 10**6),
        "color_jitter": SHARES,
    },
)


@pytest.mark.slow
@settings(max_examples=25)
@given(
    TURNED, st.sampled_from([None, "float-cifar10", "quick-resnet20-cifar10", "paper-vgg-small"])
)
def test_the_line_gives_the_knobs(knobs: dict[str, Any], recipe: str | None) -> None:
    name = "paper-vgg-small-cifar10" if recipe == "paper-vgg-small" else recipe
    ran = {**to_json(resolve_recipe(name, {}, True)), **knobs}
    run = begun(PLAIN, recipe=recipe, knobs=ran)
    line = lines(run)[-1]
    assert as_typed(line)[1]["recipe"] == name
    assert apart(knobs_of(line, True), recipe_of(ran), OWN | AUTO) == {}


def test_every_plan_option_is_a_flag() -> None:
    options = PlanOptions(
        bits="1w32a",
        keep=("layer1.*", "a"),
        binarize=("linear",),
        activation="rprelu",
        sign_threshold="learned",
        shortcut="bireal",
        downsample="avgpool",
        binarizer="plain",
        balance="median",
        estimator="triangle",
        weight_estimator="identity",
    )
    words = flags(to_json(options))
    _, given = as_typed(shlex.join(["irbin", "convert", "x", *words, "-o", "y"]))
    read = {f.name: given[f.name] for f in fields(PlanOptions)}
    assert {k: tuple(v) if isinstance(v, list) else v for k, v in read.items()} == vars(options)


def test_flags_of_nothing() -> None:
    assert flags({}) == []
    assert flags({"keep": [], "opt_kwargs": {}}) == []


def test_flags_keep_a_numbers_digits() -> None:
    words = flags({"lr": 0.1 + 0.2, "min_lr": 1e-07, "t_min": math.pi})
    assert [float(words[i]) for i in (1, 3, 5)] == [0.1 + 0.2, 1e-07, math.pi]
