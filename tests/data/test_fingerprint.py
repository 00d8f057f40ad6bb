from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from irbin.data import Images, fingerprint, open_dataset
from irbin.data.images import eval_transform
from irbin.records.options import DataOptions

from .conftest import TINY, MakeFolder, png


def of(options: DataOptions) -> str:
    return fingerprint(open_dataset(options, "train", TINY))


def test_equal_data_has_an_equal_name_wherever_it_lies(
    make_folder: MakeFolder, tmp_path: Path
) -> None:
    options = make_folder()
    name = of(options)
    assert len(name) == 16
    assert int(name, 16) >= 0
    assert of(replace(options, batch_size=9, workers=1)) == name
    shutil.copytree(tmp_path / "train", tmp_path / "moved" / "train")
    assert of(replace(options, data_dir=str(tmp_path / "moved"))) == name


@pytest.mark.parametrize("change", ["more", "less", "renamed", "moved", "resized"])
def test_other_data_has_another_name(change: str, make_folder: MakeFolder, tmp_path: Path) -> None:
    options = make_folder()
    before = of(options)
    first = tmp_path / "train" / "a" / "000.png"
    if change == "more":
        (first.parent / "999.png").write_bytes(png(np.zeros((8, 8, 3), np.uint8)))
    elif change == "less":
        first.unlink()
    elif change == "renamed":
        first.rename(first.parent / "0000.png")
    elif change == "moved":
        first.rename(first.parent.parent / "b" / "000.png")
    else:
        first.write_bytes(png(np.zeros((8, 8, 3), np.uint8)))
    assert of(options) != before


class Arrays:
    """As torchvision's CIFAR-10: pixels and labels in memory."""

    classes = ("a", "b")

    def __init__(self, pixels: np.ndarray, labels: list[int]) -> None:
        self.data, self.targets = pixels, labels

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.data[index]), self.targets[index]


def test_arrays_are_named_by_their_pixels_and_labels() -> None:
    def name(pixels: np.ndarray, labels: list[int]) -> str:
        return fingerprint(Images(Arrays(pixels, labels), eval_transform(TINY), TINY, 0, "x"))

    pixels = np.zeros((2, 8, 8, 3), np.uint8)
    other = pixels.copy()
    other[1, 7, 7, 2] = 1
    names = [name(pixels, [0, 1]), name(other, [0, 1]), name(pixels, [1, 0])]
    assert len(set(names)) == 3
    assert name(torch.from_numpy(pixels), [0, 1]) == names[0]


def test_names_of_files_need_not_be_text(make_folder: MakeFolder, tmp_path: Path) -> None:
    options = make_folder()
    before = of(options)
    (tmp_path / "train" / "a" / "000.png").rename(tmp_path / "train" / "a" / "\udcff.png")
    assert of(options) != before
