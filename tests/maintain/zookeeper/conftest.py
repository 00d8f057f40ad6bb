"""Runs of one epoch on small pictures, made once: they cost a second each."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import irbin
from irbin.records.options import DataOptions, SourceOptions

SPEC = "module:irbin.demo.network:demo_net"
OPENED = SourceOptions(num_classes=3, in_chans=3)
FAST = {"epochs": 1, "compile": False, "amp": "off"}


def options(pictures: Path) -> DataOptions:
    """Of small batches, read without other processes."""
    return DataOptions(data_dir=str(pictures), batch_size=12, workers=0)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, pictures28: Path) -> Path:
    """A folder with runs: `float`; from it `way`, converted by its recipe, and `step`, converted
    before. Not to be changed."""
    here = tmp_path_factory.mktemp("runs")
    data = options(pictures28)
    irbin.finetune(
        SPEC, here / "float", data=data, source_options=OPENED, overrides={**FAST, "seed": 7}
    )
    recipe = here / "mine.yaml"
    recipe.write_text("convert: {shortcut: bireal}\nlr: 0.002\n")
    irbin.finetune(here / "float", here / "way", data=data, recipe=str(recipe), overrides=FAST)
    irbin.convert(here / "float", here / "converted" / "step", activation="prelu")
    irbin.finetune(
        here / "converted" / "step",
        here / "step",
        data=data,
        overrides=FAST,
        teacher=str(here / "float" / "last"),
    )
    return here


@pytest.fixture
def runs(made: Path, tmp_path: Path) -> Path:
    """A copy of `made` at another place, as if all had been done there."""
    here = tmp_path / "runs"
    shutil.copytree(made, here)
    for file in [*here.rglob("args.yaml"), *here.rglob("config.json")]:
        file.write_text(file.read_text().replace(str(made), str(here)))
    return here


@pytest.fixture
def change() -> Callable[[Path, Callable[[dict[str, Any]], None]], None]:
    """Changes what a run's `args.yaml` says."""

    def edit(run: Path, how: Callable[[dict[str, Any]], None]) -> None:
        args = yaml.safe_load((run / "args.yaml").read_text())
        how(args)
        (run / "args.yaml").write_text(yaml.safe_dump(args))

    return edit
