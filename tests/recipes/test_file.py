from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from irbin.errors import UsageError
from irbin.recipes.file import RecipeFile, plan_options, read_recipe, recipe_names
from irbin.records.json import to_json
from irbin.records.options import DEFAULT_BATCH_SIZE, DataOptions, SourceOptions
from irbin.records.plan import PlanOptions
from irbin.rewriting.conversion import make_binary
from irbin.sources.by_name import open_network

CONVERTING = [name for name in recipe_names() if read_recipe(name).convert is not None]


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_says_what_it_is_for(name: str) -> None:
    file = read_recipe(name)
    assert 0 < len(file.about) < 80
    assert file.text.startswith("about: ")
    assert file.about[-1] != "."
    if file.convert is not None:
        assert file.source is not None
    if file.source is not None:
        assert file.knobs["epochs"]


@pytest.mark.slow
@pytest.mark.parametrize("name", CONVERTING)
def test_every_conversion_works_on_its_own_network(name: str) -> None:
    file = read_recipe(name)
    assert file.source is not None
    assert file.plan_options is not None
    small = (3, 64, 64) if "imagenet" in name else None  # one that its layers can be told from
    network = open_network(file.source, SourceOptions(pretrained=False, input_size=small))
    converted = make_binary(network, file.plan_options)  # runs it once, forward and backward
    assert converted.plan is not None
    assert converted.plan.binary_names


def test_the_papers_networks_are_converted_as_the_authors_do() -> None:
    def conversion(name: str) -> tuple[str, str, str]:
        options = read_recipe(f"paper-{name}").plan_options
        assert options is not None
        assert (options.binarizer, options.estimator) == ("libra", "ede")
        assert options.weight_estimator == "same"
        return options.bits, options.activation, options.shortcut

    assert conversion("resnet20-cifar10") == ("1w1a", "hardtanh", "bireal")
    assert conversion("resnet20-1w32a-cifar10") == ("1w32a", "keep", "none")
    assert conversion("resnet18-cifar10") == ("1w1a", "hardtanh", "none")
    assert conversion("vgg-small-cifar10") == ("1w1a", "hardtanh", "none")
    assert conversion("resnet18-imagenet") == ("1w1a", "hardtanh", "bireal")
    for name in ("resnet18-imagenet", "resnet34-imagenet"):
        recipe = read_recipe(f"paper-{name}")
        assert (recipe.source, recipe.pretrained) == (f"paper:{name}", False)


@pytest.mark.parametrize("given", [None, 1, 7, 128])
@pytest.mark.parametrize("said", [None, 1, 64])
def test_what_the_user_says_wins_over_the_recipes_batch_size(
    given: int | None, said: int | None, tmp_path: Path
) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("epochs: 1\n" + (f"batch_size: {said}\n" if said else ""))
    file = read_recipe(str(recipe))
    wanted = given or said or DEFAULT_BATCH_SIZE
    assert file.batched(DataOptions(batch_size=given)).n_batch == wanted
    assert "batch_size" not in file.knobs


def test_the_batch_size_of_a_run_is_that_of_its_recipe(tmp_path: Path) -> None:
    args = tmp_path / "args.yaml"
    args.write_text(yaml.safe_dump({"recipe": {"epochs": 2}, "data": {"batch_size": 9}}))
    assert read_recipe(str(args)).batch_size == 9
    args.write_text(yaml.safe_dump({"recipe": {"epochs": 2}}))
    assert read_recipe(str(args)).batch_size is None


def test_no_recipe_is_an_empty_file() -> None:
    assert read_recipe(None) == RecipeFile("")
    assert read_recipe(None).plan_options is None


def test_a_file_is_read_apart(tmp_path: Path) -> None:
    text = "about: mine\nsource: paper:resnet20\nconvert:\n  keep: [layer1]\nepochs: 3\n"
    (tmp_path / "mine.yaml").write_text(text)
    file = read_recipe(str(tmp_path / "mine.yaml"))
    assert (file.about, file.source, file.text) == ("mine", "paper:resnet20", text)
    assert file.plan_options == PlanOptions(keep=("layer1",))
    assert file.knobs == {"epochs": 3}


def test_an_empty_conversion_is_the_default_one(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("convert: {}\n")
    assert read_recipe(str(tmp_path / "mine.yaml")).plan_options == PlanOptions()
    (tmp_path / "mine.yaml").write_text("convert:\n")
    assert read_recipe(str(tmp_path / "mine.yaml")).plan_options is None


@pytest.mark.parametrize("converted", [True, False])
def test_of_a_run_the_conversion_is_read_too(tmp_path: Path, converted: bool) -> None:
    options = to_json(PlanOptions(shortcut="bireal")) if converted else None
    content = {"command": {"source": "x", "convert": options}, "recipe": {"epochs": 2}}
    (tmp_path / "args.yaml").write_text(yaml.safe_dump(content))
    file = read_recipe(str(tmp_path / "args.yaml"))
    assert file.plan_options == (PlanOptions(shortcut="bireal") if converted else None)
    assert (file.source, file.knobs) == (None, {"epochs": 2})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("source: 3", "`source`: Input should be a valid string, got 3"),
        ("about: [1]", "`about`: Input should be a valid string, got [1]"),
        ("pretrained: 'no'", "`pretrained`: Input should be a valid boolean, got 'no'"),
        ("batch_size: 0", "`batch_size`: Input should be greater than or equal to 1, got 0"),
        (
            "batch_size: many",
            "`batch_size`: Input should be a valid integer, unable to parse string as an integer, "
            "got 'many'",
        ),
        ("convert: bireal", "`convert`: Input should be a valid dictionary, got 'bireal'"),
        (
            "convert: {shortcuts: bireal}",
            "`convert`: plan options: no option `shortcuts`; nearest: `shortcut`",
        ),
        (
            "convert: {shortcut: both}",
            "`convert`: plan options: at `shortcut`: Input should be 'none' or 'bireal'",
        ),
    ],
)
def test_what_cannot_be_meant_is_told_with_its_file(
    tmp_path: Path, text: str, message: str
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_recipe(str(file))
    assert str(caught.value) == f"`recipe=`: {file} sets {message}"


def test_an_unknown_recipe_is_told_with_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        read_recipe("paper-resnet20")
    assert str(caught.value).startswith(
        "`recipe`: expected a name that `irbin recipes` lists or a .yaml file, got "
        "`paper-resnet20`; nearest: `paper-resnet20-cifar10`, "
    )


def test_plan_options_take_lists() -> None:
    assert plan_options({"keep": ["a"], "binarize": ()}) == PlanOptions(keep=("a",))
    with pytest.raises(UsageError, match=r"^plan options: no option `bit`; nearest: `bits`$"):
        plan_options({"bit": "1w1a"})


@pytest.mark.parametrize("name", ["keep", "binarize"])
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("c1", r"got 'c1'; give `\['c1'\]`"),
        (None, "got None"),
        (3, "got 3"),
        ({"c1": 1}, r"got \{'c1': 1\}"),
    ],
)
def test_rules_that_are_no_list_are_told_with_the_list(name: str, given: Any, words: str) -> None:
    with pytest.raises(UsageError, match=f"`{name}`: expected a list of names, {words}$"):
        plan_options({name: given})
