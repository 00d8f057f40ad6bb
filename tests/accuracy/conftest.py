"""The programs of `docs/accuracy`, a tiny file of experiments, and images for it."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

PROGRAMS = Path(__file__).parents[2] / "docs" / "accuracy"
N_CLASSES = 10  # as the paper's networks

TINY: dict[str, Any] = {
    "queue": ["flat", "binary"],
    "flat": {
        "source": "paper:resnet20",
        "recipe": "float-cifar10",
        "seeds": [1, 2],
        "batch_size": 10,
        "set": {"epochs": 2, "warmup_epochs": 0, "amp": "off"},
        "runs": {"float": {"seeds": [1], "hours": 3}, "other": {}},
    },
    "binary": {
        "source": ["float", "elsewhere"],
        "recipe": "paper-resnet20-cifar10",
        "seeds": [7],
        "batch_size": 10,
        "convert": {"bits": "1w1a", "shortcut": "bireal"},
        "set": {"epochs": 2, "amp": "off", "distill": True},
        "runs": {"bits": {"hours": 1.5}},
    },
}


def program(name: str) -> ModuleType:
    """One of them; `sys.path` has their folder."""
    return importlib.import_module(name)


@pytest.fixture(autouse=True)
def _programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(PROGRAMS)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """`TINY` in the place of the file of experiments."""
    write_experiments(tmp_path, monkeypatch, TINY)
    return TINY


def write_experiments(folder: Path, monkeypatch: pytest.MonkeyPatch, content: Any) -> None:
    file = folder / "tiny.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    monkeypatch.setenv("IRBIN_EXPERIMENTS", str(file))


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder


def saved(
    runs: Path,
    name: str,
    n_done: int,
    n_epochs: int = 2,
    seconds: float = 3600.0,
    top1: float = 50.0,
) -> Path:
    """A run folder as training leaves it, for those who only ask how far it is."""
    out = runs / name
    (out / "last").mkdir(parents=True)
    recipe = {"epochs": n_epochs, "cooldown_epochs": 0}
    (out / "args.yaml").write_text(yaml.safe_dump({"recipe": recipe}))
    records = [{"seconds": seconds, "eval_top1": top1} for _ in range(n_done)]
    state = {"version": 1, "progress": {"records": records}}
    (out / "last" / "training.json").write_text(json.dumps(state))
    return out


@pytest.fixture(scope="session")
def cifar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32×32 images of ten classes: 30 to train on, 10 to validate."""
    root = tmp_path_factory.mktemp("cifar")
    random = np.random.default_rng(0)
    for split, n_images in (("train", 3), ("val", 1)):
        for label in range(N_CLASSES):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True)
            for index in range(n_images):
                pixels = random.integers(0, 60, (32, 32, 3)) + 18 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")
    return root
