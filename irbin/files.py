"""Files and folders that appear whole or not at all: written beside their place, then renamed.

For the moment between two renames the old one stands at `<name>.previous`, where `current` finds it
if the program ends there.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path


def beside(path: Path) -> Path:
    """Where what will be `path` is written: `<name>.partial` in the same folder."""
    return path.with_name(f"{path.name}.partial")


def write_file(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all."""
    partial = beside(path)
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def put_in_place(partial: Path, path: Path) -> None:
    """Gives a finished folder its name; what stood there goes away only after that.

    The folder's files are on the disk before anything is renamed.
    """
    for file in partial.iterdir():
        if file.is_file():
            _flush(file)
    previous = _previous(path)
    if path.exists():
        remove(previous)
        path.rename(previous)
    try:
        partial.rename(path)
    except OSError:
        if previous.exists():
            previous.rename(path)
        raise
    with suppress(OSError):  # in use, where that forbids removing: the next one removes it
        remove(previous)


def current(path: Path) -> Path | None:
    """The folder `path`, or what a program that ended while replacing it left; else None."""
    return next((place for place in (path, _previous(path)) if place.is_dir()), None)


def remove(path: Path) -> None:
    """Removes a file or a whole folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _flush(file: Path) -> None:
    """Waits until a file is on the disk."""
    mode = "r+b" if os.name == "nt" else "rb"  # Windows flushes what may be written alone
    with file.open(mode) as opened:
        os.fsync(opened.fileno())


def _previous(path: Path) -> Path:
    return path.with_name(f"{path.name}.previous")
