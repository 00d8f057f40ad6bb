from __future__ import annotations

import gzip
import io
import os
import struct
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from irbin.data import (
    Augmentation,
    class_names,
    eval_loader,
    n_classes,
    open_dataset,
    train_loader,
)
from irbin.data.order import Feed
from irbin.errors import DataError, UsageError
from irbin.records.options import Preprocessing

from .conftest import CLASSES, RGB, make_split, options

GRAY = Preprocessing((1, 28, 28), (0.5,), (0.25,), "bilinear", 1.0)


def png(level: int, size: tuple[int, int] = (8, 8)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, (level, 0, 255 - level)).save(stream, "PNG")
    return stream.getvalue()


def test_a_folder_gives_every_image_with_its_class(root: Path) -> None:
    dataset = open_dataset(options(root), "validation", RGB)
    assert len(dataset) == 6
    assert class_names(dataset) == CLASSES
    assert n_classes(dataset) == 3
    batches = list(eval_loader(dataset, options(root)))
    assert [len(labels) for _, labels in batches] == [4, 2]
    assert [int(label) for _, labels in batches for label in labels] == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("folder", "split"),
    [
        ("val", "validation"),
        ("valid", "val"),
        ("eval", "validation"),
        ("test", "test"),
        ("training", "train"),
        ("holdout", "holdout"),
    ],
)
def test_split_names_that_timm_takes_for_each_other(
    folder: str, split: str, tmp_path: Path
) -> None:
    make_split(tmp_path / folder)
    make_split(tmp_path / "zzz" / "inner")
    assert len(open_dataset(options(tmp_path), split, RGB)) == 6


def test_a_missing_split_names_what_is_there(root: Path) -> None:
    # timm would read train and val together as one split
    message = r"^expected a folder `test` in .*, found `train`, `val`; `val_split=` names another$"
    with pytest.raises(DataError, match=message):
        open_dataset(options(root), "test", RGB)
    with pytest.raises(DataError, match=r"expected a folder `fit`.*`train_split=` names another"):
        open_dataset(options(root), "fit", RGB, training=True)
    (root / "train").rename(root / "other")
    with pytest.raises(DataError, match=r"expected a folder `train`.*`train_split=` names another"):
        open_dataset(options(root), "train", RGB)  # to calibrate on


def test_a_folder_of_classes_is_a_split_to_evaluate_but_not_to_train_on(tmp_path: Path) -> None:
    make_split(tmp_path)
    assert class_names(open_dataset(options(tmp_path), "validation", RGB)) == CLASSES
    with pytest.raises(DataError, match=r"expected a folder `train` in .*, found `ant`, `bee`"):
        open_dataset(options(tmp_path), "train", RGB, training=True)


def test_missing_empty_and_unreadable_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"expected a data folder, got .*nowhere, which does not"):
        open_dataset(options(tmp_path / "nowhere"), "validation", RGB)
    with pytest.raises(DataError, match=r"found nothing; `val_split=` names another"):
        open_dataset(options(tmp_path), "validation", RGB)
    (tmp_path / "val" / "ant").mkdir(parents=True)
    with pytest.raises(DataError, match=r"expected a data set at .*val.*got: Found 0 images"):
        open_dataset(options(tmp_path), "validation", RGB)
    (tmp_path / "note.txt").write_text("")
    with pytest.raises(DataError, match=r"expected a folder or a \.tar of images, got the file"):
        open_dataset(options(tmp_path / "note.txt"), "validation", RGB)
    with pytest.raises(UsageError, match="`data_dir=`: expected the folder"):
        open_dataset(options(None), "validation", RGB)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(DataError, match="permission denied"):
        open_dataset(options(tmp_path), "validation", RGB)


NEEDLE = png(0, (1 << 21, 1))
"""Resized to the height of a network's input it would have billions of pixels."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "workers"),
    [
        (b"", 0),
        (b"", 1),
        (b"\x89PNG\r\n\x1a\n", 0),
        (png(9)[:50], 0),
        (b"GIF89a", 0),
        (NEEDLE, 0),
        (NEEDLE, 1),
    ],
    ids=[
        "empty",
        "empty_in_worker",
        "head_alone",
        "cut_short",
        "other_format",
        "needle",
        "needle_in_worker",
    ],
)
def test_a_corrupt_image_is_named_and_not_replaced(
    content: bytes, workers: int, root: Path
) -> None:
    (root / "val" / "bee" / "1.png").write_bytes(content)
    dataset = open_dataset(options(root), "validation", RGB)
    message = (
        r"^expected images that can be decoded, got .*val/bee/1\.png: .*; repair or remove it$"
    )
    with pytest.raises(DataError, match=message) as caught:
        list(eval_loader(dataset, options(root, workers=workers)))
    assert "<_io" not in str(caught.value)


def test_tar_files_are_read(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "val.tar", "w") as archive:
        for name in CLASSES:
            for index in range(2):
                content = png(40 * index)
                info = tarfile.TarInfo(f"{name}/{index}.png")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    for place, split in ((tmp_path, "validation"), (tmp_path / "val.tar", "anything")):
        dataset = open_dataset(options(place), split, RGB)
        assert class_names(dataset) == CLASSES
        labels = [int(x) for _, batch in eval_loader(dataset, options(place)) for x in batch]
        assert labels == [0, 0, 1, 1, 2, 2]
        dataset.base.reader.tar_state.tf.close()  # timm keeps it open


def write_idx(path: Path, array: np.ndarray) -> None:
    shape = array.shape
    header = struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)
    with gzip.open(path, "wb") as file:
        file.write(header + array.astype(np.uint8).tobytes())


def test_torchvision_data_sets_are_read_gray_and_untouched(tmp_path: Path) -> None:
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 28, 28))
    for prefix in ("train", "t10k"):
        write_idx(raw / f"{prefix}-images-idx3-ubyte.gz", pixels)
        write_idx(raw / f"{prefix}-labels-idx1-ubyte.gz", np.array([9, 2, 1, 1, 0]))
        for kind in ("images-idx3", "labels-idx1"):  # torchvision wants them unpacked
            name = f"{prefix}-{kind}-ubyte"
            (raw / name).write_bytes(gzip.decompress((raw / f"{name}.gz").read_bytes()))
    data = options(tmp_path, dataset="torch/fashion_mnist")
    dataset = open_dataset(data, "validation", GRAY)
    assert n_classes(dataset) == 10
    (images, labels) = next(iter(eval_loader(dataset, replace(data, batch_size=5))))
    assert labels.tolist() == [9, 2, 1, 1, 0]
    expected = (pixels[0] / 255 - 0.5) / 0.25
    assert np.allclose(images[0, 0].numpy(), expected, atol=1e-5)
    colored = open_dataset(data, "validation", replace(RGB, input_size=(3, 28, 28)))
    assert next(iter(eval_loader(colored, data)))[0].shape == (4, 3, 28, 28)


def test_data_sets_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"no files there \(`dataset_download=True` fetches them\)"):
        open_dataset(options(tmp_path, dataset="torch/cifar10"), "validation", RGB)
    with pytest.raises(DataError, match=r"expected a data set at torch/nonsense .*Unknown"):
        open_dataset(options(tmp_path, dataset="torch/nonsense"), "validation", RGB)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(DataError, match=r"`dataset='wds/x'` needs the package `webdataset`"):
        open_dataset(options(tmp_path, dataset="wds/x"), "validation", RGB)


def test_class_maps_fix_the_numbers(root: Path) -> None:
    (root / "map.txt").write_text("cat\nbee\nant\n")
    data = options(root, class_map=str(root / "map.txt"))
    dataset = open_dataset(data, "validation", RGB)
    assert class_names(dataset) == ("cat", "bee", "ant")
    labels = [int(x) for _, batch in eval_loader(dataset, data) for x in batch]
    assert labels == [2, 2, 1, 1, 0, 0]
    with pytest.raises(UsageError, match=r"`class_map=`: expected a \.txt file.*got map\.pkl"):
        open_dataset(options(root, class_map="map.pkl"), "validation", RGB)


def test_training_images_are_augmented_and_shuffled(root: Path) -> None:
    data = options(root)
    still = open_dataset(data, "train", RGB, training=True)
    moving = open_dataset(
        data, "train", RGB, training=True, augmentation=Augmentation(crop_padding=2), seed=1
    )
    assert len(list(train_loader(still, data, Feed(seed=1)))) == 3
    plain = next(iter(train_loader(still, data, Feed(seed=1))))
    moved = next(iter(train_loader(moving, data, Feed(seed=1))))
    assert plain[1].tolist() == moved[1].tolist()
    assert not np.array_equal(plain[0].numpy(), moved[0].numpy())
    orders = {
        tuple(next(iter(train_loader(still, data, Feed(seed=s))))[1].tolist()) for s in range(5)
    }
    assert len(orders) > 1
