"""A request is resolved once: what wins, what is read, and how often."""

from __future__ import annotations

import logging
import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

import irbin
from irbin.cli.app import main
from irbin.errors import UsageError
from irbin.recipes import file as recipe_file
from irbin.recipes.file import RecipeFile, read_recipe
from irbin.recipes.recipe import Recipe
from irbin.recipes.request import asked, resolve_recipe
from irbin.records.options import DEFAULT_BATCH_SIZE, DEFAULT_SEED, DataOptions, SourceOptions

SPEC = "module:irbin.demo.network:demo_net"


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the recipes whose YAML is parsed."""
    names: list[str] = []
    mapping = recipe_file._mapping
    monkeypatch.setattr(
        recipe_file, "_mapping", lambda text, name: (names.append(name), mapping(text, name))[1]
    )
    return names


@pytest.fixture
def mine(tmp_path: Path) -> str:
    file = tmp_path / "mine.yaml"
    file.write_text(f"source: {SPEC}\nconvert: {{}}\nbatch_size: 9\nseed: 7\nepochs: 3\n")
    return str(file)


class TestSeed:
    def test_of_the_source_wins_over_a_flag_over_the_recipe_over_the_default(
        self, mine: str
    ) -> None:
        def seed(how: SourceOptions | None, recipe: str | None, **knobs: int) -> int | None:
            return asked("net", how, recipe=recipe, overrides=knobs).source_options.seed

        assert seed(None, None) == seed(SourceOptions(), None) == DEFAULT_SEED
        assert seed(SourceOptions(num_classes=3), mine) == 7
        assert seed(None, mine, seed=8) == 8
        assert seed(SourceOptions(seed=DEFAULT_SEED), mine, seed=8) == DEFAULT_SEED
        assert seed(SourceOptions(seed=0), mine) == 0

    def test_that_is_not_given_is_none(self) -> None:
        assert SourceOptions().seed is None


def test_a_request_is_frozen_and_says_everything(mine: str) -> None:
    request = asked(None, recipe=mine, overrides={"lr": 0.5}, data=DataOptions("images"))
    assert (request.source, request.file.plan_options is None) == (SPEC, False)
    assert request.data == DataOptions("images", batch_size=9)
    assert request.recipe(converted=True) == resolve_recipe(mine, {"lr": 0.5}, True)
    assert not request.recipe(converted=False).distill
    unsaid = asked("net", data=DataOptions("a")).data
    assert unsaid == DataOptions("a", batch_size=DEFAULT_BATCH_SIZE)
    assert asked("net").data is None
    with pytest.raises(FrozenInstanceError):
        request.source = "another"  # type: ignore[misc]


def test_without_a_recipe_the_network_decides_which_one() -> None:
    request = asked("net")
    assert request.file == RecipeFile("")
    assert request.recipe(converted=True) == Recipe()
    assert request.recipe(converted=False) == resolve_recipe("float", {}, converted=False)


def test_what_makes_no_sense_is_refused_before_anything_opens(mine: str) -> None:
    for overrides, message in (
        ({"learning": 1}, "`recipe=`: overrides sets `learning`, which is no knob"),
        ({"lr": -1}, "`lr`: Input should be greater than 0, got -1"),
        ({"t_min": 20}, "`t_min`: expected at most `t_max` = 10.0, got 20.0"),
    ):
        with pytest.raises(UsageError) as caught:
            asked("no-such-network", recipe=mine, overrides=overrides)
        assert str(caught.value).startswith(message)


@pytest.mark.parametrize("way", ["asked", "resolved"])
def test_a_value_that_a_file_sets_is_refused_with_the_file(way: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("epochs: 1000000000000000000000\n")

    def get(**overrides: int | str) -> None:
        if way == "asked":
            asked(SPEC, recipe=str(file), overrides=overrides)
        else:
            resolve_recipe(str(file), overrides, converted=True)

    with pytest.raises(UsageError, match=rf"^`recipe=`: {file} sets `epochs`: "):
        get()
    with pytest.raises(UsageError, match=r"^`epochs`: "):
        get(epochs="many")
    get(epochs=8)


def test_what_only_a_converted_network_can_have_is_not_refused_before_it_is_known() -> None:
    request = asked("net", overrides={"repeat_views": 2})
    assert request.recipe(converted=True).repeat_views == 2
    with pytest.raises(UsageError, match=r"^`repeat_views`: expected a run that distills"):
        request.recipe(converted=False)


def test_a_warm_up_that_is_too_long_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "irbin"):
        request = asked("net", recipe="paper-resnet18-imagenet", overrides={"epochs": 1})
        assert caplog.messages == []
        request.recipe(converted=True)
    (told,) = caplog.messages
    assert told.startswith("1 epoch is too short for the recipe's warm-up of ")


class TestARecipeIsParsedOnceACommand:
    @pytest.mark.slow
    def test_that_converts(self, mine: str, tmp_path: Path, parsed: list[str]) -> None:
        assert main(["convert", "--recipe", mine, "-o", str(tmp_path / "converted")]) == 0
        assert parsed == [mine]

    def test_that_fine_tunes(self, mine: str, tmp_path: Path, parsed: list[str]) -> None:
        """The run's folder is refused when everything is resolved and the network is open."""
        (tmp_path / "file").touch()
        for recipe, source in ((mine, None), (None, SPEC)):
            with pytest.raises(UsageError, match="expected a new folder for the run"):
                irbin.finetune(
                    source, tmp_path / "file", data=DataOptions(str(tmp_path)), recipe=recipe
                )
        assert parsed == [mine, "float"]

    def test_that_shows_it(self, mine: str, parsed: list[str]) -> None:
        assert main(["recipes", "show", mine, "--resolved"]) == 0
        assert parsed == [mine]

    def test_that_lists_all(self, parsed: list[str]) -> None:
        assert main(["recipes"]) == 0
        assert sorted(parsed) == sorted(recipe_file.recipe_names())

    @pytest.mark.slow
    def test_that_was_handed_it(self, mine: str, parsed: list[str]) -> None:
        file = read_recipe(mine)
        assert asked(None, recipe=file).file is file
        assert irbin.convert(recipe=file).plan is not None
        assert parsed == [mine]


@pytest.mark.slow
def test_asking_loads_no_torch() -> None:
    code = (
        "import sys; from irbin.recipes.request import asked; asked('net', recipe='quick'); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
