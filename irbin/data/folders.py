"""An image folder read in one walk, as timm reads it, with what timm passes over in silence.

Hidden files and folders (`._1.jpg` of macOS, `.ipynb_checkpoints`) are no images and no classes.
Files of other types, and classes that a class map lacks, are counted and told.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from timm.data import get_img_extensions
from timm.data.readers.class_map import load_class_map
from timm.data.readers.reader_image_folder import ReaderImageFolder

from irbin.errors import DataError
from irbin.messages import counted, first_line, is_text
from irbin.pictures import HIDDEN
from irbin.searched import natural, searched

_N_NAMED = 5
"""Names in a message."""

_KNOWN_OTHERS = ("", ".txt", ".csv", ".json", ".yaml", ".md", ".ini", ".db")
"""Endings of files that lie beside images and are none."""

_log = logging.getLogger("irbin")


class FolderReader(ReaderImageFolder):  # type: ignore[misc]  # timm has no types
    """timm's reader of a folder of class folders, made by a walk of our own.

    Labels are the innermost folders' numbers, in timm's natural order or a class map's.

    Args:
        root: folder of a split.
        class_map: file with one class name a line, or '' for the folders' own order.

    Raises:
        DataError: no image; images outside any class folder; a class map that lacks classes.
    """

    def __init__(self, root: str, class_map: str = "") -> None:
        self.root = root
        images, others, empty = _walk(root)
        if not images:
            raise DataError(f"Found 0 images in subfolders of {root}{_other_types(others)}")
        names = {label for _, label in images}
        if class_map:
            self.class_to_idx = _read_map(class_map, root)
            _check_map(root, Counter(label for _, label in images), self.class_to_idx)
        else:
            _check_depth(root, images)
            if empty:
                _log.warning("%s: %s", root, _no_class(empty))
            ordered = sorted(names, key=natural)
            self.class_to_idx = {name: index for index, name in enumerate(ordered)}
        numbered = [(path, self.class_to_idx[label]) for path, label in images]
        self.samples = sorted(numbered, key=lambda sample: natural(sample[0]))
        if others:
            _log.warning("%s: %s", root, _left_out(others))


def is_hidden(path: str) -> bool:
    """Whether a file or folder on the way, seen from a data set's root, is a hidden one."""
    return any(part.startswith(HIDDEN) and part != ".." for part in Path(path).parts)


def refuse_flat(folder: Path) -> None:
    """Says so where images lie in a folder that has no others in it.

    Raises:
        DataError: they do.
    """
    types = get_img_extensions(as_set=True)
    files = [f for f in folder.iterdir() if f.suffix.lower() in types and not is_hidden(f.name)]
    if files:
        raise DataError(_FLAT.format(folder=folder, n=f"{len(files):,}", first=min(files).name))


def tidy_tar(reader: Any, place: str, class_map: str) -> None:
    """Does to timm's reader of a tar, in place, what `FolderReader` does itself.

    Args:
        reader: of images in a tar, made without a class map.
        place: the tar.
        class_map: see `FolderReader`.

    Raises:
        DataError: a class map that lacks classes.
    """
    kept = [i for i, sample in enumerate(reader.samples) if not is_hidden(sample[0].name)]
    labels = [reader.class_idx_to_name[reader.targets[i]] for i in kept]
    for label in set(labels):
        _check_text(label)
    if class_map:
        numbers = _read_map(class_map, place)
        _check_map(place, Counter(labels), numbers)
    else:
        numbers = {name: i for i, name in enumerate(sorted(set(labels), key=natural))}
    reader.samples = [reader.samples[i] for i in kept]
    reader.targets = [numbers[label] for label in labels]
    reader.class_name_to_idx = numbers
    reader.class_idx_to_name = {index: name for name, index in numbers.items()}


_MARK = "\ufeff"
"""What editors of Windows write before the first line: it cannot be seen, and names no class."""


def _read_map(class_map: str, place: str) -> dict[str, int]:
    """Class → number, the lines counted from 0; empty ones may stand at the end.

    Raises:
        DataError: the file is not there, holds no text, or leaves a number without a class.
    """
    try:
        numbers = load_class_map(class_map, place)
    except (OSError, AssertionError, UnicodeDecodeError) as error:
        is_there = any(path.exists() for path in (Path(class_map), Path(place) / class_map))
        got = first_line(error) if is_there else "no such file"
        raise DataError(
            f"`class_map=`: expected a file with one class name a line, got {class_map}: {got}"
        ) from error
    marked = {name.removeprefix(_MARK): number for name, number in numbers.items()}
    named = {name: number for name, number in marked.items() if name}
    gap = next((i for i, number in enumerate(sorted(named.values())) if i != number), None)
    if gap is not None:
        raise DataError(
            f"`class_map=`: expected a class of its own on every line of {class_map}, found none "
            f"on line {gap + 1}: it is empty, or its name comes again"
        )
    return named


_FLAT = (
    "expected a folder for each class in {folder}, found {n} images directly in it (`{first}` …) "
    "and no class; move each into the folder of its class"
)


def _walk(root: str) -> tuple[list[tuple[str, str]], Counter[str], list[str]]:
    """(path, innermost folder) of every image; how many other files have which ending; empty ones.

    Raises:
        DataError: a folder cannot be read, or is called by no text.
    """
    images: list[tuple[str, str]] = []
    others: Counter[str] = Counter()
    n_below: Counter[str] = Counter()
    for folder, names, more in searched(root, get_img_extensions(as_set=True)):
        inside = "" if folder == root else os.path.relpath(folder, root)
        label = os.path.basename(folder) if inside else ""
        if inside:
            n_below[inside.split(os.sep, 1)[0]] += len(names)
        if names:
            _check_text(label)
        images += [(os.path.join(folder, name), label) for name in names]
        endings = [os.path.splitext(name)[1].lower() for name in more]
        others.update(ending for ending in endings if ending not in _KNOWN_OTHERS)
    return images, others, [name for name, n in n_below.items() if not n]


def _check_text(label: str) -> None:
    """Refuses a class whose name is no text: it could be written into no file."""
    if not is_text(label):
        raise DataError(f"expected class folders named in UTF-8, got {label!a}; rename it")


def _check_depth(root: str, images: list[tuple[str, str]]) -> None:
    """Refuses images that lie in no class's folder: timm makes a class of the split itself."""
    outside = [path for path, label in images if not label]
    if not outside:
        return
    if len(outside) == len(images):
        first = min(map(os.path.basename, outside))
        raise DataError(_FLAT.format(folder=root, n=f"{len(outside):,}", first=first))
    raise DataError(
        f"expected every image of {root} in the folder of its class, found {len(outside):,} of "
        f"{len(images):,} outside (`{os.path.basename(outside[0])}` …); move or remove them"
    )


def _check_map(root: str, n_images: Counter[str], numbers: Mapping[str, int]) -> None:
    """Refuses a class map that would leave out images without a word."""
    missing = sorted(set(n_images) - set(numbers), key=natural)
    if not missing:
        return
    listed = ", ".join(f"`{name}`" for name in missing[:_N_NAMED])
    rest = f" and {len(missing) - _N_NAMED} more" if len(missing) > _N_NAMED else ""
    n_lost = sum(n_images[name] for name in missing)
    raise DataError(
        f"`class_map=`: expected a line for every class in {root}, {listed}{rest} of "
        f"{len(n_images)} have none ({counted(n_lost, 'image')}); add them, or remove their folders"
    )


def _no_class(empty: list[str]) -> str:
    listed = ", ".join(f"`{name}`" for name in empty[:_N_NAMED]) + " …" * (len(empty) > _N_NAMED)
    return f"{counted(len(empty), 'folder')} without an image, no class ({listed})"


def _other_types(others: Counter[str]) -> str:
    types = ", ".join(get_img_extensions())
    return f" (of the types {types}){'; ' + _left_out(others) if others else ''}"


def _left_out(others: Counter[str]) -> str:
    listed = ", ".join(f"{n:,} × `{ending}`" for ending, n in others.most_common(_N_NAMED))
    n = sum(others.values())
    types = ", ".join(f"`{ending}`" for ending in get_img_extensions())
    return f"{n:,} file{'s' * (n != 1)} of other types left out ({listed}); read are {types}"
