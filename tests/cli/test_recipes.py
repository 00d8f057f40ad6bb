from __future__ import annotations

import json
from pathlib import Path

import pytest

from irbin.cli.recipes import FAMILIES
from irbin.recipes.file import read_recipe, recipe_names
from irbin.recipes.request import resolve_recipe
from tests.cli.test_app import python


def test_the_list_has_every_recipe_under_its_family(run) -> None:
    done = run("recipes")
    assert done.code == 0
    titles = [line.strip() for line in done.out.splitlines()]
    assert all(title in titles for title in FAMILIES.values())
    rows = {line.split()[0]: line for line in done.out.splitlines()[2:] if line.strip()}
    assert set(recipe_names()) <= rows.keys()
    row = rows["paper-resnet20-cifar10"]
    assert row.split()[:4] == ["paper-resnet20-cifar10", "1w1a", "400", "the"]
    assert rows["float"].split()[:2] == ["float", "10"]
    first = titles.index(FAMILIES["paper-"])
    assert titles[first + 1].startswith("paper-")
    assert done.err == "next: irbin recipes show NAME; irbin finetune --recipe NAME …\n"


def test_the_list_as_json(run) -> None:
    done = run("recipes", "--json", "-")
    values = {value["name"]: value for value in json.loads(done.out)["recipes"]}
    assert tuple(values) == recipe_names()
    vgg = values["paper-vgg-small-cifar10"]
    assert (vgg["source"], vgg["convert"]["bits"], vgg["recipe"]["epochs"]) == (
        "paper:vgg-small",
        "1w1a",
        300,
    )
    assert values["quick"]["convert"] is None


@pytest.mark.parametrize("name", recipe_names())
def test_show_prints_the_file_word_for_word(run, name: str) -> None:
    assert run("recipes", "show", name).out == read_recipe(name).text


@pytest.mark.parametrize("name", ["quick", "float", "paper-resnet18-imagenet"])
def test_what_resolved_prints_is_the_same_recipe(run, tmp_path: Path, name: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(run("recipes", "show", name, "--resolved").out)
    mine, theirs = read_recipe(str(file)), read_recipe(name)
    assert (mine.about, mine.source, mine.pretrained) == (
        theirs.about,
        theirs.source,
        theirs.pretrained,
    )
    assert mine.plan_options == theirs.plan_options
    for converted in (True, False):
        assert resolve_recipe(str(file), {}, converted) == resolve_recipe(name, {}, converted)
    assert len(mine.knobs) == len(read_recipe("default").knobs)


def test_a_file_of_the_users_is_shown_too(run, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("epochs: 3\n")
    assert run("recipes", "show", str(tmp_path / "mine.yaml")).out == "epochs: 3\n"


def test_show_writes_json_beside_the_text_or_alone(run, tmp_path: Path) -> None:
    done = run("recipes", "show", "quick", "--json", str(tmp_path / "quick.json"))
    assert done.out == read_recipe("quick").text
    alone = run("recipes", "show", "quick", "--json", "-").out
    assert json.loads(alone) == json.loads((tmp_path / "quick.json").read_text())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["show"], "expected a name after `show`, got none; `irbin recipes` lists them"),
        (["--resolved"], "`--resolved` prints one recipe: give `show NAME` too"),
        (["quick"], "Invalid value for 'show': 'quick' is not one of 'show'"),
        (["show", "nosuch"], "`NAME`: expected a name that `irbin recipes` lists"),
    ],
)
def test_what_cannot_be_meant(run, words: list[str], message: str) -> None:
    done = run("recipes", *words)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"irbin: {message}")
    assert done.err.count("\n") == 1


def test_a_value_that_cannot_be_meant_is_of_the_name_that_was_given(run, tmp_path) -> None:
    """This command has no `--recipe`."""
    (tmp_path / "odd.yaml").write_text("epochs: true\n")
    done = run("recipes", "show", str(tmp_path / "odd.yaml"))
    assert done.code == 2
    assert done.err.startswith("irbin: `NAME`: ")
    assert "sets `epochs`: Input should be a number, got True" in done.err


@pytest.mark.slow
def test_listing_loads_no_torch() -> None:
    code = (
        "import sys; from irbin.cli.app import main; code = main(['recipes']); "
        "sys.exit(code or any(m in sys.modules for m in ('torch', 'timm', 'numpy')))"
    )
    assert python("-c", code).returncode == 0
