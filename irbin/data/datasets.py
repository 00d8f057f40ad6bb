"""A data-set string and a folder become a data set, through timm.data.

Where timm is lenient, this is not: a split that is missing, a folder that is empty or unreadable
are errors that say what is there.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from pathlib import Path
from typing import Any

from timm.data import ImageDataset, IterableImageDataset, create_dataset

from irbin.data.augment import pads_in_batches
from irbin.data.batches import Images, Stream
from irbin.data.folders import FolderReader, is_hidden, refuse_flat, tidy_tar
from irbin.data.images import (
    Augmentation,
    eval_transform,
    fit_transform,
    train_transform,
)
from irbin.data.shards import check_files
from irbin.errors import DataError, UsageError
from irbin.messages import first_line
from irbin.pictures import image_mode
from irbin.records.options import DataOptions, Preprocessing

_SYNONYMS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "eval", "evaluation"),
}
"""Folder names timm takes for each other."""

_SPLIT_NAMES = (*_SYNONYMS["train"], *_SYNONYMS["validation"], "test", "testing")

_PACKAGES = {
    "hfds": "datasets",
    "hfids": "datasets",
    "wds": "webdataset",
    "tfds": "tensorflow_datasets",
}
"""What a data-set prefix needs installed."""

_COUNTED = ("hfids", "wds", "tfds")
"""Streams, whose length may have to be told."""

_ADVICE = {
    "download=True": "no files there (`dataset_download=True` fetches them)",
    "not found in info": (
        "no `_info.json` with the split `{split}`; without one, name the shards: "
        "`{kind}_split='NAME-{{0000..0012}}.tar|N_IMAGES'`"
    ),
    "num_samples not specified": (
        "no number of images; `{kind}_num_samples=` or `|N_IMAGES` after the split says it"
    ),
    "invalid literal for int()": (
        "a class or an image whose name has a digit like `²` in it, which timm cannot put in "
        "order; rename it"
    ),
    "Dataset length is unknown": "no number of images; `{kind}_num_samples=` says it",
}
"""What to say instead of a message that holds the key."""


def open_dataset(
    options: DataOptions,
    split: str,
    preprocessing: Preprocessing,
    *,
    training: bool = False,
    augmentation: Augmentation | None = None,
    seed: int = 0,
) -> Images | Stream:
    """A data set of uint8 images, opened by timm.

    Args:
        options: where; names are timm's.
        split: name of the split.
        preprocessing: input size, channels (1 reads gray images) and interpolation.
        training: a training split: a folder must name it, and streams are shuffled.
        augmentation: random changes; None gives the evaluation transform.
        seed: decides everything random.

    Returns:
        Images with random access, or a stream (`hfids/…`, `wds/…`, `tfds/…`).

    Raises:
        DataError: missing, unreadable, empty, no such split, or a package that is not installed.
        UsageError: no folder named, a class map that is not text, channels that no image has, or
            alternating flips or repeated views of a stream.
    """
    mode = image_mode(preprocessing)
    follows = augmentation is not None and pads_in_batches(augmentation, preprocessing)
    if augmentation is None:
        transform = eval_transform(preprocessing)
    elif follows and _kind(options) not in _COUNTED:
        transform = fit_transform(preprocessing)
    else:
        transform = train_transform(preprocessing, augmentation)
    root = _find_root(options, split, training)
    place = " ".join(part for part in (options.dataset, root, f"({split})") if part)
    base = _create(options, root, split, mode, training, seed, place)
    if isinstance(base, IterableImageDataset):
        if augmentation is not None:
            _check_needs_no_number(augmentation, place)
        stream = Stream(base, transform, preprocessing, place, _kind(options), seed)
        if stream.split is not None:
            check_files(str(root or ""), stream.split, place)
        return stream
    if len(base) == 0:
        raise DataError(f"expected images in {place}, found none")
    return Images(base, transform, preprocessing, seed, place, augmentation)


def _check_needs_no_number(augmentation: Augmentation, place: str) -> None:
    """Refuses what must know an image again when it comes back.

    Raises:
        UsageError: alternating flips, or views that repeat.
    """
    for name, off in (("flip", "random"), ("repeat_views", 0)):
        if (value := getattr(augmentation, name)) != off:
            raise UsageError(
                f"`{name}`: expected `{off}` for {place}, whose images have no number, got "
                f"`{value}`"
            )


def _create(
    options: DataOptions,
    root: str | None,
    split: str,
    mode: str,
    training: bool,
    seed: int,
    place: str,
) -> Any:
    kind = _kind(options)
    package = _PACKAGES.get(kind)
    if package is not None and importlib.util.find_spec(package) is None:
        raise DataError(
            f"`dataset={options.dataset!r}` needs the package `{package}`, which is not installed: "
            f"pip install {package}"
        )
    is_tar = root is not None and root.endswith(".tar") and not options.dataset
    # timm's cache of a big tar's contents is a pickle beside the data
    settings: dict[str, Any] = {"cache_tarinfo": False} if is_tar else {}
    if kind in _COUNTED:
        n = options.train_num_samples if training else options.val_num_samples
        settings = {"num_samples": n}
        mode = mode if kind == "tfds" else ""  # as stored: 16 bits are read by us
    # says over several lines that there is no `_info.json`; what is wrong is told below
    logging.getLogger("timm.data.readers.reader_wds").addFilter(_is_no_fallback)
    try:
        if not options.dataset and root is not None and os.path.isdir(root):
            reader = FolderReader(root, options.class_map)
            return ImageDataset(root, reader=reader, input_img_mode=mode)
        class_map = "" if is_tar else options.class_map
        settings |= {"root": root, "split": split, "search_split": False, "is_training": training}
        settings |= {"class_map": class_map or None, "download": options.dataset_download}
        settings |= {"batch_size": options.n_batch, "seed": seed, "input_img_mode": mode}
        base = create_dataset(options.dataset, **settings)
        if is_tar:
            tidy_tar(base.reader, str(root), options.class_map)
        return base
    except DataError as error:
        if str(error).startswith("Found 0"):
            raise DataError(f"expected a data set at {place}, got: {error}") from error
        raise
    except Exception as error:  # timm and torchvision raise anything, assertions included
        reason = first_line(error)
        for sign, advice in _ADVICE.items():
            if sign in reason:
                reason = advice.format(split=split, kind="train" if training else "val")
        raise DataError(f"expected a data set at {place}, got: {reason}") from error


def _is_no_fallback(record: logging.LogRecord) -> bool:
    return "info file not found" not in record.getMessage()


def _kind(options: DataOptions) -> str:
    """Prefix of the data set's name."""
    return options.dataset.partition("/")[0].lower() if "/" in options.dataset else ""


def _find_root(options: DataOptions, split: str, training: bool) -> str | None:
    """Folder or tar of the split; for named data sets what the user gave."""
    if options.class_map and Path(options.class_map).suffix != ".txt":
        raise UsageError(
            "`class_map=`: expected a .txt file with one class name a line, "
            f"got {options.class_map}"
        )
    kind = _kind(options)
    by_folder = kind == "" or options.dataset.lower() in ("torch/image_folder", "torch/folder")
    if options.data_dir is None:
        if by_folder or kind in ("torch", "wds"):
            raise UsageError("`data_dir=`: expected the folder of the data set, got none")
        return None
    if not by_folder:
        return options.data_dir
    root = Path(options.data_dir)
    if not root.exists():
        raise DataError(f"expected a data folder, got {root}, which does not exist")
    if root.is_file():
        if root.suffix != ".tar":
            raise DataError(f"expected a folder or a .tar of images, got the file {root}")
        return str(root)
    if not os.access(root, os.R_OK | os.X_OK):
        raise DataError(f"expected a folder that can be read, got {root}: permission denied")
    return str(_find_split(root, split, training))


def _find_split(root: Path, split: str, training: bool) -> Path:
    names = next((names for names in _SYNONYMS.values() if split in names), ())
    for name in dict.fromkeys((split, *names)):
        for place in (root / name, root / f"{name}.tar"):
            if place.exists():
                return place
    there = sorted(
        entry.name
        for entry in root.iterdir()
        if (entry.is_dir() or entry.suffix == ".tar") and not is_hidden(entry.name)
    )
    if not there:
        refuse_flat(root)
    splits = [name for name in there if name.removesuffix(".tar") in _SPLIT_NAMES]
    # a folder of class folders is a split by itself; never one to train on and validate on too
    if there and not splits and not training:
        return root
    listed = ", ".join(f"`{name}`" for name in (splits or there)[:8]) or "nothing"
    is_training = training or split in _SYNONYMS["train"]
    option = "train_split" if is_training else "val_split"
    raise DataError(
        f"expected a folder `{split}` in {root}, found {listed}; `{option}=` names another"
    )
