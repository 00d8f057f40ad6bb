from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest
import yaml

from irbin.errors import UsageError
from irbin.recipes.file import knob_lines, read_recipe, recipe_names
from irbin.recipes.recipe import FIELD_NAMES, Recipe
from irbin.recipes.request import load_recipe, resolve_recipe
from irbin.records.json import to_json


def test_default_names_every_knob_in_the_order_of_the_record() -> None:
    assert tuple(load_recipe("default")) == FIELD_NAMES


@pytest.mark.parametrize("name", recipe_names())
@pytest.mark.parametrize("converted", [True, False])
def test_every_recipe_resolves(name: str, converted: bool) -> None:
    recipe = resolve_recipe(name, {}, converted)
    assert to_json(recipe).keys() == set(FIELD_NAMES)
    if not converted:
        assert not recipe.distill


def test_the_recipes_that_are_promised_exist() -> None:
    promised = {
        "default",
        "float",
        "quick",
        "float-cifar10",
        "quick-resnet20-cifar10",
        "paper-resnet20-cifar10",
        "paper-resnet20-1w32a-cifar10",
        "paper-vgg-small-cifar10",
        "paper-resnet18-cifar10",
        "paper-resnet18-imagenet",
        "paper-resnet34-imagenet",
        "irbin-resnet20-cifar10",
        "irbin-resnet18-cifar10",
        "irbin-vgg-small-cifar10",
        "quick-resnet20-1w32a-cifar10",
        "irbin-resnet18-imagenet",
    }
    assert promised <= set(recipe_names())


def test_paper_recipes_hold_the_authors_numbers() -> None:
    resnet20 = resolve_recipe("paper-resnet20-cifar10", {}, converted=True)
    assert (resnet20.epochs, resnet20.lr, resnet20.weight_decay) == (400, 0.1, 1e-4)
    assert (resnet20.t_min, resnet20.t_max, resnet20.momentum) == (1e-3, 10, 0.9)
    assert (resnet20.opt, resnet20.sched, resnet20.crop_padding) == ("momentum", "cosine", 4)
    assert (resnet20.min_lr, resnet20.warmup_epochs, resnet20.distill) == (0, 0, False)
    weights_only = resolve_recipe("paper-resnet20-1w32a-cifar10", {}, converted=True)
    assert weights_only == replace(resnet20, t_min=0.1)
    vgg = resolve_recipe("paper-vgg-small-cifar10", {}, converted=True)
    assert (vgg.epochs, vgg.lr, vgg.t_min) == (300, 0.007, 0.1)
    resnet18, resnet34 = (
        resolve_recipe(f"paper-{name}-imagenet", {}, converted=True)
        for name in ("resnet18", "resnet34")
    )
    assert resnet18 == resnet34
    assert (resnet18.epochs, resnet18.lr, resnet18.warmup_lr) == (100, 0.8, 0.2)
    assert (resnet18.weight_decay, resnet18.t_min) == (1e-4, 0.1)


@pytest.mark.parametrize("name", [name for name in recipe_names() if name.startswith("paper-")])
def test_paper_recipes_have_nothing_that_is_not_the_papers(name: str) -> None:
    recipe = resolve_recipe(name, {}, converted=True)
    assert load_recipe(name)["ede_scale"] == "paper"
    assert (recipe.distill, recipe.recu, recipe.model_ema) == (False, False, False)
    assert recipe.calibrate_images == 0
    assert (recipe.input_spread, recipe.norm_lr_scale, recipe.latent_lr_scale) == ("none", 1, 1)
    assert recipe.float_epochs == recipe.activation_epochs == 0


def test_layers_override_each_other(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("lr: 3e-3\nepochs: 7\n")  # YAML reads 3e-3 as a string
    recipe = resolve_recipe(str(file), {"epochs": 9}, converted=True)
    assert (recipe.lr, recipe.epochs) == (0.003, 9)
    assert recipe.t_max == resolve_recipe(None, {}, converted=True).t_max
    assert resolve_recipe(None, {}, converted=True).distill
    assert resolve_recipe(None, {}, converted=False) == resolve_recipe("float", {}, converted=False)
    assert resolve_recipe(None, {"distill": True}, converted=False).distill


def test_args_yaml_of_a_run_is_a_recipe(tmp_path: Path) -> None:
    recipe = resolve_recipe("quick", {"lr": 0.5, "scale": (0.5, 1.0)}, converted=True)
    file = tmp_path / "args.yaml"
    file.write_text(yaml.safe_dump({"device": "cpu", "recipe": to_json(recipe)}))
    assert resolve_recipe(str(file), {}, converted=True) == recipe


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"leraning_rate": 1}, r"overrides sets `leraning_rate`, which is no knob"),
        ({"warmup_epoch": 1}, r"which is no knob; nearest: `warmup_epochs`, "),
        ({"lr": -1}, r"^`lr`: .*greater than 0, got -1"),
        ({"lr": "fast"}, r"^`lr`: .*got 'fast'"),
        ({"lr": float("nan")}, r"^`lr`: "),
        ({"epochs": 0}, r"^`epochs`: .*got 0"),
        ({"epochs": 1.5}, r"^`epochs`: .*got 1\.5"),
        ({"hflip": 1.1}, r"^`hflip`: .*got 1\.1"),
        ({"smoothing": 1.0}, r"^`smoothing`: "),
        ({"amp": "int8"}, r"^`amp`: .*'float16' or 'off', got 'int8'"),
        ({"sched": "cosin"}, r"^`sched=?`: .*got 'cosin'"),
        ({"crop_padding": "four"}, r"^`crop_padding`: "),
        ({"t_min": 20}, r"^`t_min`: expected at most `t_max` = 10\.0, got 20\.0$"),
        ({"warmup_epochs": 10}, r"^`warmup_epochs`: expected less than `epochs` = 10, got 10\.0$"),
        ({"flip": "never"}, r"^`flip`: .*'random' or 'alternating', got 'never'"),
        (
            {"flip": "alternating", "hflip": 0.25},
            r"^`flip=`: `alternating` flips every image every second epoch, so expected `hflip` "
            r"0\.5, got 0\.25$",
        ),
        ({"scale": (0.5, 0.1)}, r"^`scale`: expected \(lowest, highest\), got \(0\.5, 0\.1\)$"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_values_that_cannot_be_meant(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        resolve_recipe(None, overrides, converted=True)
    assert "\n" not in str(caught.value)


def test_recipes_and_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"got `defualt`; nearest: `default`"):
        load_recipe("defualt")
    with pytest.raises(UsageError, match=r"cannot read .*none\.yaml: No such file"):
        load_recipe(str(tmp_path / "none.yaml"))
    for content, message in (
        ("a: [1", "expected YAML in"),
        ("- lr\n- 1\n", "expected lines `name: value` in .*got a list"),
        ("learning: 1\n", r"mine\.yaml sets `learning`, which is no knob"),
    ):
        (tmp_path / "mine.yaml").write_text(content)
        with pytest.raises(UsageError, match=message) as caught:
            load_recipe(str(tmp_path / "mine.yaml"))
        assert "\n" not in str(caught.value)
    (tmp_path / "mine.yaml").write_text("# nothing\n")
    assert load_recipe(str(tmp_path / "mine.yaml")) == {}


def test_a_recipe_is_frozen_and_checked_when_replaced() -> None:
    recipe = resolve_recipe(None, {}, converted=True)
    with pytest.raises(FrozenInstanceError):
        recipe.lr = 1.0  # type: ignore[misc]
    assert replace(recipe, lr=0.5).lr == 0.5
    with pytest.raises(ValueError, match="t_min"):
        replace(recipe, t_min=100.0)


def test_the_default_recipe_is_the_record_s_own_word_for_word() -> None:
    assert resolve_recipe("default", {}, True) == resolve_recipe(None, {}, True) == Recipe()
    assert yaml.safe_load(read_recipe("default").text).keys() == {"about", *FIELD_NAMES}


@pytest.mark.parametrize(
    "knobs",
    [{"amp": "off"}, {"opt": "adam, x: #1"}, {"opt_kwargs": {"betas": [0.5, 0.9]}}, {"opt": "1"}],
    ids=str,
)
def test_lines_of_a_recipe_are_read_as_the_same_recipe(
    knobs: dict[str, object], tmp_path: Path
) -> None:
    recipe = resolve_recipe(None, knobs, True)
    (tmp_path / "mine.yaml").write_text(knob_lines(recipe), "utf-8")
    assert resolve_recipe(str(tmp_path / "mine.yaml"), {}, True) == recipe


def test_declaring_the_knobs_loads_no_pydantic() -> None:
    code = "import sys, irbin.cli.recipe_options; sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_recipes_load_no_torch() -> None:
    code = (
        "import sys, irbin.recipes.request as request; request.load_recipe('quick'); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
