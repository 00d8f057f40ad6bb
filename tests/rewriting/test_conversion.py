"""A recipe that converts: one command gives what two give; what it refuses, and what it notes."""

from __future__ import annotations

import csv
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import irbin
import irbin.sources.spec
from irbin import DataOptions, SourceOptions
from irbin.demo.network import demo_net
from irbin.errors import UsageError
from irbin.records.options import CALIBRATION_IMAGES
from irbin.records.training import RunRecord

SPEC = "module:irbin.demo.network:demo_net"
THREE = SourceOptions(num_classes=3)
FAST = {"epochs": 2, "lr": 0.01, "amp": "off", "channels_last": False, "compile": False}
CONVERT = {"shortcut": "bireal", "activation": "prelu"}


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def data(pictures28: Path) -> DataOptions:
    return DataOptions(data_dir=str(pictures28), batch_size=9, workers=0)


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    """A recipe that names its network and how to convert it."""
    return write_recipe(tmp_path, source=SPEC, convert=CONVERT, seed=7, **FAST)


def write_recipe(folder: Path, **content: Any) -> str:
    file = folder / "mine.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return str(file)


def two_commands(
    source: str | Path | None, out: Path, recipe: str, data: DataOptions, seed: int
) -> RunRecord:
    how = SourceOptions(num_classes=3, seed=seed)
    irbin.convert(
        source,
        out / "converted",
        recipe=recipe,
        source_options=how,
        data=data,
        calibrate=CALIBRATION_IMAGES,
    )
    return irbin.finetune(out / "converted", out / "two", data=data, recipe=recipe)


def assert_same_bytes(one: Path, other: Path) -> None:
    tensors = sorted(path.relative_to(one) for path in one.rglob("*.safetensors"))
    assert len(tensors) >= 3  # last, its training state, best
    for path in [*tensors, Path("last/config.json"), Path("best/config.json")]:
        assert (one / path).read_bytes() == (other / path).read_bytes(), path
    assert figures(one) == figures(other)


def figures(run: Path) -> list[dict[str, str]]:
    """Of summary.csv all but times."""
    with (run / "summary.csv").open() as file:
        timed = ("seconds", "images_per_second", "waiting", "eval_seconds")
        return [{k: v for k, v in row.items() if k not in timed} for row in csv.DictReader(file)]


def notes_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """But for that on how short these runs are."""
    notes = [record.getMessage() for record in caplog.records]
    return [note for note in notes if "too few to learn" not in note]


@pytest.mark.slow
def test_one_command_gives_the_bytes_of_two(
    tmp_path: Path, recipe: str, data: DataOptions, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "irbin"):
        two_commands(None, tmp_path, recipe, data, seed=7)
    assert not notes_of(caplog)  # the conversion is the recipe's
    irbin.finetune(None, tmp_path / "one", data=data, recipe=recipe, source_options=THREE)
    assert_same_bytes(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_the_float_source_is_the_teacher_in_both_ways(
    tmp_path: Path, recipe: str, data: DataOptions
) -> None:
    irbin.finetune(SPEC, tmp_path / "float", data=data, source_options=THREE, overrides=FAST)
    two_commands(tmp_path / "float", tmp_path, recipe, data, seed=7)
    irbin.finetune(tmp_path / "float", tmp_path / "one", data=data, recipe=recipe)
    assert_same_bytes(tmp_path / "one", tmp_path / "two")
    irbin.finetune(
        tmp_path / "float",
        tmp_path / "alone",
        data=data,
        recipe=recipe,
        overrides={"distill": False},
    )
    assert figures(tmp_path / "alone") != figures(tmp_path / "one")


@pytest.mark.slow
def test_a_run_that_goes_on_ends_as_one_that_never_stopped(
    tmp_path: Path, recipe: str, data: DataOptions
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    line: dict[str, Any] = {"data": data, "recipe": recipe, "source_options": THREE}
    stages: list[tuple[Any, ...]] = []
    told: list[str] = []
    irbin.finetune(
        None, tmp_path / "whole", stage=lambda *at: stages.append(at), say=told.append, **line
    )
    assert ("calibrating", 36, 36) in stages
    assert told[0] == (
        f"converted as {recipe} says: 6 binary layers (1w1a, activation prelu, shortcut bireal)"
    )
    assert irbin.finetune(None, tmp_path / "cut", on_epoch=stop, **line).interrupted
    stages.clear()
    irbin.finetune(None, tmp_path / "cut", resume=True, stage=lambda *at: stages.append(at), **line)
    assert "calibrating" not in {name for name, *_ in stages}  # the saved statistics count
    assert_same_bytes(tmp_path / "cut", tmp_path / "whole")


@pytest.mark.slow
def test_a_run_remembers_its_conversion_and_can_be_a_recipe(
    tmp_path: Path, recipe: str, data: DataOptions
) -> None:
    irbin.finetune(None, tmp_path / "one", data=data, recipe=recipe, source_options=THREE)
    file = tmp_path / "one" / "args.yaml"
    command = yaml.safe_load(file.read_text())["command"]
    assert command["source"] == SPEC
    assert CONVERT.items() <= command["convert"].items()
    irbin.finetune(SPEC, tmp_path / "again", data=data, recipe=str(file), source_options=THREE)
    assert_same_bytes(tmp_path / "again", tmp_path / "one")


@pytest.mark.slow
def test_options_win_over_the_recipe_and_its_seed_is_the_default(
    tmp_path: Path, recipe: str
) -> None:
    plan = irbin.convert(recipe=recipe, activation="hardtanh").plan
    assert plan is not None
    assert (plan.options.activation, plan.options.shortcut) == ("hardtanh", "bireal")

    def weights(**how: Any) -> torch.Tensor:
        return irbin.convert(recipe=recipe, **how).module.state_dict()["stem.weight"]

    assert torch.equal(weights(), weights(source_options=SourceOptions(seed=7)))
    assert not torch.equal(weights(), weights(source_options=SourceOptions(seed=8)))


@pytest.mark.slow
def test_a_recipe_without_a_conversion_trains_the_float_network(
    tmp_path: Path, data: DataOptions
) -> None:
    recipe = write_recipe(tmp_path, source=SPEC, **FAST)
    irbin.finetune(None, tmp_path / "run", data=data, recipe=recipe, source_options=THREE)
    assert irbin.open_network(tmp_path / "run").plan is None
    assert yaml.safe_load((tmp_path / "run/args.yaml").read_text())["command"]["convert"] is None


@pytest.mark.slow
def test_a_network_converted_otherwise_is_noted_and_trained(
    tmp_path: Path, recipe: str, data: DataOptions, caplog: pytest.LogCaptureFixture
) -> None:
    keep = ["stage3.conv2"]
    irbin.convert(SPEC, tmp_path / "other", source_options=THREE, shortcut="bireal", keep=keep)
    with caplog.at_level(logging.WARNING, "irbin"):
        irbin.finetune(tmp_path / "other", tmp_path / "run", data=data, recipe=recipe)
    assert notes_of(caplog) == [
        f"the recipe `{recipe}` is made for another conversion: this network has `activation` "
        "hardtanh instead of prelu, `keep` stage3.conv2 instead of none"
    ]
    plan = irbin.open_network(tmp_path / "run").plan
    assert plan is not None
    assert plan.options.activation == "hardtanh"


def test_pretrained_false_keeps_the_recipes_own_network_untrained(tmp_path: Path) -> None:
    from irbin.recipes.file import read_recipe
    from irbin.recipes.request import named_source

    file = read_recipe(write_recipe(tmp_path, source="resnet18", pretrained=False))
    assert named_source(None, None, file) == ("resnet18", SourceOptions(pretrained=False))
    assert named_source("resnet34", None, file) == ("resnet34", SourceOptions())


def test_nothing_named_is_refused(tmp_path: Path, data: DataOptions) -> None:
    expected = "expected a SOURCE, got none; give a model's name, a checkpoint file or a folder"
    with pytest.raises(UsageError) as caught:
        irbin.finetune(None, tmp_path / "run", data=data)
    assert str(caught.value) == expected
    with pytest.raises(UsageError) as caught:
        irbin.convert(recipe="quick")
    assert str(caught.value) == f"{expected}; the recipe `quick` names no network"


def test_an_existing_run_is_refused_before_anything_is_converted(
    tmp_path: Path, recipe: str, data: DataOptions
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").touch()
    stages: list[str] = []
    with pytest.raises(UsageError, match=r"expected a new folder for the run, got .*/run"):
        irbin.finetune(
            None,
            tmp_path / "run",
            data=data,
            recipe=recipe,
            source_options=THREE,
            stage=lambda name, *_: stages.append(name),
        )
    assert stages == []


@pytest.mark.slow
def test_the_checkpoint_that_is_converted_and_then_teaches_is_read_once(
    tmp_path: Path, data: DataOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(demo_net(num_classes=3).state_dict(), tmp_path / "net.pth")
    read: list[Path] = []
    real = irbin.sources.spec.read_checkpoint
    monkeypatch.setattr(
        "irbin.sources.spec.read_checkpoint",
        lambda path, *how: (read.append(path), real(path, *how))[1],
    )
    taught: list[torch.nn.Module] = []
    monkeypatch.setattr(
        "irbin.verbs.finetune_network", lambda *_, teacher, **__: taught.append(teacher)
    )
    recipe = write_recipe(tmp_path, convert=CONVERT, distill=True, **FAST)
    how = replace(THREE, model=SPEC)
    irbin.finetune(
        tmp_path / "net.pth", tmp_path / "run", data=data, recipe=recipe, source_options=how
    )
    assert read == [tmp_path / "net.pth"]
    assert not taught[0].training
    assert taught[0].state_dict().keys() == demo_net(num_classes=3).state_dict().keys()
    weights = torch.load(tmp_path / "net.pth")
    assert all(
        torch.equal(tensor, weights[name]) for name, tensor in taught[0].state_dict().items()
    )
