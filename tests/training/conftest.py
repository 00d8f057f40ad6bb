"""Tiny networks and image folders for the training tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from irbin.binary.anneal import EdePhase
from irbin.binary.layers import BinaryConv2d, Method
from irbin.recipes.recipe import Recipe
from irbin.recipes.request import resolve_recipe
from irbin.records.options import DataOptions, Preprocessing, SourceRecord
from irbin.records.plan import Plan, PlanOptions
from irbin.records.training import StepRecord
from irbin.rewriting.network import Network

CLASSES = ("dark", "light", "striped")
SIZE = 8


class TinyNet(nn.Module):
    """Stem, one convolution that a test may binarize, batch norm, dropout, classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(6)
        self.act = nn.Hardtanh()
        self.conv = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.2)
        self.fc = nn.Linear(6, len(CLASSES))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.bn1(self.stem(x)))
        x = self.act(self.bn2(self.conv(x)))
        return self.fc(self.drop(x.mean((2, 3))))


def _source() -> SourceRecord:
    preprocessing = Preprocessing((3, SIZE, SIZE), (0.5,) * 3, (0.25,) * 3, "bilinear", 1.0)
    return SourceRecord("module:tiny:net", "module:tiny:net", len(CLASSES), preprocessing)


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def make_network() -> Callable[..., Network]:
    def make(binary: bool = True, seed: int = 0) -> Network:
        torch.manual_seed(seed)
        module = TinyNet()
        if not binary:
            return Network(module, _source())
        phase = EdePhase()
        module.conv = BinaryConv2d.from_float(module.conv, Method(), phase)
        module.add_module("ede", phase)
        plan = Plan(PlanOptions(), (), (3, SIZE, SIZE), 0, 0, 0)
        return Network(module, _source(), plan)

    return make


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for split, n_images in (("train", 10), ("val", 5)):
        for label, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(n_images):
                pixels = random.integers(0, 120, (SIZE, SIZE, 3)) + (0, 120, 60)[label]
                if name == "striped":
                    pixels[::2] = 255 - pixels[::2]
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")
    return root


@pytest.fixture
def data(image_folder: Path) -> DataOptions:
    """30 training images in batches of 8: 3 steps an epoch; 15 to validate on."""
    return DataOptions(data_dir=str(image_folder), batch_size=8, workers=0)


@pytest.fixture
def recipe() -> Recipe:
    plain = {"amp": "off", "channels_last": False, "compile": False, "t_min": 0.1, "t_max": 10.0}
    return replace(resolve_recipe("quick", plain, converted=True), epochs=3, distill=False)


def stop_after(n_steps: int) -> Callable[[StepRecord], None]:
    """A report that ends a run as Ctrl-C does, after so many steps."""
    seen: list[StepRecord] = []

    def report(step: StepRecord) -> None:
        seen.append(step)
        if len(seen) == n_steps:
            raise KeyboardInterrupt

    return report


def weights(out: Path) -> bytes:
    """What a run folder holds of its network."""
    return (out / "last" / "model.safetensors").read_bytes()
