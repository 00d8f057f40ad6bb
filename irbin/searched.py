"""What lies in a folder of pictures: one walk, and the order of names."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator

from irbin.errors import DataError
from irbin.pictures import HIDDEN


def natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """A key that sorts numbers in a name by their size: `2.png` before `10.png`.

    Equal parts (`Cat` and `cat`, `1` and `01`) are told apart by the name itself, so that the order
    of names is the same wherever and however they were listed. Otherwise the order is timm's.
    """
    parts = re.split(r"(\d+)", name)
    key = [(int(part), "") if i % 2 else (-1, part.lower()) for i, part in enumerate(parts)]
    return key, name


def searched(root: str, types: Collection[str]) -> Iterator[tuple[str, list[str], list[str]]]:
    """Every folder below one, itself first: (folder, names of pictures, names of other files).

    Hidden files and folders are passed over, and so are links to a folder in which they lie: they
    lead back. A link that leads nowhere is a name like any other, for whoever reads it to say so.

    Args:
        root: a folder.
        types: endings of pictures, in lower case.

    Raises:
        DataError: a folder cannot be read, or what is called a picture is a pipe, a socket or a
            device, which may never end.
    """
    pending: list[tuple[str, frozenset[tuple[int, int]]]] = [(root, frozenset())]
    while pending:
        folder, above = pending.pop()
        try:
            status = os.stat(folder)
            place = (status.st_dev, status.st_ino)
            if place in above:
                continue
            with os.scandir(folder) as listed:
                entries = sorted((e for e in listed if not e.name.startswith(HIDDEN)), key=_name)
        except OSError as error:
            raise DataError(
                f"expected folders that can be read, got {folder}: {error.strerror or error}; make "
                "it readable, or remove it"
            ) from error
        inner: list[str] = []
        wanted: list[str] = []
        others: list[str] = []
        for entry in entries:
            if _is_folder(entry):
                inner.append(os.path.join(folder, entry.name))
                continue
            is_picture = os.path.splitext(entry.name)[1].lower() in types
            if is_picture and _may_never_end(entry):
                raise DataError(
                    f"expected pictures in files, got {entry.path}, which is a pipe, a socket or a "
                    "device; remove it"
                )
            (wanted if is_picture else others).append(entry.name)
        yield folder, wanted, others
        pending += [(path, above | {place}) for path in reversed(inner)]


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or into a folder that cannot be read
        return False


def _may_never_end(entry: os.DirEntry[str]) -> bool:
    """Whether it is there and no file."""
    try:
        return not entry.is_file() and os.path.exists(entry.path)
    except OSError:
        return False
