"""The embedded data set: what it holds, and that unpacking it is lossless."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from irbin.demo import dataset
from irbin.demo.dataset import CLASSES, N_PER_CLASS, load_subset, make_subset, read_idx
from irbin.errors import DataError


def idx(path: Path, array: np.ndarray) -> None:
    head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    path.write_bytes(gzip.compress(head + array.astype(np.uint8).tobytes()))


def test_classes_are_balanced() -> None:
    for split, (images, labels) in load_subset().items():
        assert images.shape == (10 * N_PER_CLASS[split], 28, 28)
        assert images.dtype == np.uint8
        assert np.bincount(labels).tolist() == [N_PER_CLASS[split]] * 10


def test_train_and_val_share_no_image() -> None:
    subset = load_subset()
    train = {image.tobytes() for image in subset["train"][0]}
    assert not [image for image in subset["val"][0] if image.tobytes() in train]


def test_unpacking_is_lossless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = {split: (x[:30], y[:30]) for split, (x, y) in load_subset().items()}
    monkeypatch.setattr(dataset, "load_subset", lambda: few)
    seen: list[tuple[int, int]] = []
    dataset.write_image_folder(tmp_path / "data", lambda *done: seen.append(done))
    assert seen[-1] == (60, 60)
    for split, (images, labels) in few.items():
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            file = tmp_path / "data" / split / CLASSES[label] / f"{index:05d}.png"
            np.testing.assert_array_equal(np.asarray(Image.open(file)), image)
    assert not (tmp_path / "data.partial").exists()


def test_subset_takes_the_first_of_each_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "N_PER_CLASS", {"train": 1, "val": 1})
    labels = np.array([3, 3, *range(10)])
    images = np.arange(12)[:, None, None] * np.ones((1, 28, 28))
    for prefix in ("train", "t10k"):
        idx(tmp_path / f"{prefix}-images-idx3-ubyte.gz", images)
        idx(tmp_path / f"{prefix}-labels-idx1-ubyte.gz", labels)
    make_subset(tmp_path, tmp_path / "subset.npz")
    with np.load(tmp_path / "subset.npz") as made:
        assert made["train_images"][:, 0, 0].tolist() == [0, 2, 3, 4, 6, 7, 8, 9, 10, 11]
        assert made["val_labels"].tolist() == [3, 0, 1, 2, 4, 5, 6, 7, 8, 9]


def test_what_is_no_idx_file_is_told(tmp_path: Path) -> None:
    file = tmp_path / "x.gz"
    file.write_bytes(gzip.compress(b"\0\0\x0d\1"))
    with pytest.raises(DataError, match="expected an idx file of unsigned bytes, got"):
        read_idx(file)
