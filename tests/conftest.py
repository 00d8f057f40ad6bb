"""What several rooms' tests share: a tiny real-looking image folder, and one thread for torch."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from PIL import Image

# a busy machine is no failure; CI repeats what it found, a developer's machine goes on looking
settings.register_profile("irbin", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("irbin")

torch.set_num_threads(1)  # tests are small; two spinning threads only slow each other down

CLASSES = ("bars", "dots", "plain")


def draw(kind: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """A noisy picture of one class, uint8 (size, size, 3)."""
    picture = rng.integers(0, 60, (size, size, 3))
    if kind == "bars":
        picture[:, rng.integers(0, 4) :: 4] += 150
    elif kind == "dots":
        picture[rng.integers(0, 4) :: 4, rng.integers(0, 4) :: 4] += 190
    return picture.astype(np.uint8)


def write_pictures(folder: Path, size: int, n_train: int = 12, n_val: int = 6) -> Path:
    """An image folder `folder`/{train,val}/<class>/<n>.png of three classes."""
    rng = np.random.default_rng(0)
    for split, n in (("train", n_train), ("val", n_val)):
        for kind in CLASSES:
            (folder / split / kind).mkdir(parents=True)
            for index in range(n):
                file = folder / split / kind / f"{index}.png"
                Image.fromarray(draw(kind, size, rng)).save(file)
    return folder


@pytest.fixture(scope="session")
def pictures28(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """28×28 pictures; not to be changed."""
    return write_pictures(tmp_path_factory.mktemp("pictures") / "28", 28)
