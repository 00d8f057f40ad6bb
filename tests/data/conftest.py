from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from irbin.records.options import DataOptions, Preprocessing

TINY = Preprocessing((3, 8, 8), (0.5,) * 3, (0.25,) * 3, "bilinear", 1.0)

RGB = TINY
CLASSES = ("ant", "bee", "cat")

MakeFolder = Callable[..., DataOptions]


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """Writes `train` and `val` of images with random pixels in three classes."""

    def make(n_train: int = 13, n_val: int = 7, size: tuple[int, int] = (8, 8)) -> DataOptions:
        rng = np.random.default_rng(0)
        for split, n in (("train", n_train), ("val", n_val)):
            for i in range(n):
                folder = tmp_path / split / "abc"[i % 3]
                folder.mkdir(parents=True, exist_ok=True)
                pixels = rng.integers(0, 256, (*size, 3), np.uint8)
                (folder / f"{i:03d}.png").write_bytes(png(pixels))
        return DataOptions(data_dir=str(tmp_path), batch_size=4, workers=0)

    return make


def make_split(folder: Path, classes: tuple[str, ...] = CLASSES, n_images: int = 2) -> None:
    """`folder`/<class>/<n>.png, each of one color."""
    for name in classes:
        (folder / name).mkdir(parents=True)
        for index in range(n_images):
            color = np.full((8, 8, 3), (40 * index, 0, 255 - 40 * index), np.uint8)
            (folder / name / f"{index}.png").write_bytes(png(color))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with `train` and `val` of three classes."""
    make_split(tmp_path / "train", n_images=4)
    make_split(tmp_path / "val")
    return tmp_path


def options(root: Path | None, **changes: object) -> DataOptions:
    """Of a folder, with small batches."""
    folder = None if root is None else str(root)
    return replace(DataOptions(data_dir=folder, batch_size=4, workers=0), **changes)
