"""Names of pictures: files, folders that hold some, patterns, standard input."""

from __future__ import annotations

import glob
import io
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sized
from typing import Any

from irbin.errors import DataError, UsageError
from irbin.pictures import FILE_TYPES
from irbin.searched import natural, searched

STDIN = "-"
_PATTERN = re.compile(r"[*?\[]")


def pictures(given: Iterable[Any]) -> Iterable[tuple[str, Any]]:
    """What each picture is called, and what it is read from.

    Args:
        given: names of files, of folders (searched with all that lie in them, in natural order),
            patterns (`photos/**/*.jpg`) and `-`, a picture on standard input; or PIL images and
            arrays, which are called by their numbers. What has a length is looked through before
            anything is read, anything else as it comes.

    Raises:
        UsageError: a name that nothing has.
        DataError: a folder or a pattern without a picture.
    """
    named = _each(given)
    return list(named) if isinstance(given, Sized) else named


def _each(given: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    number = 0
    for one in given:
        if not isinstance(one, str | os.PathLike):
            yield str(number), one
            number += 1
            continue
        for file in _files(os.fspath(one)):
            yield file, file
            number += 1


def _files(name: str) -> list[str]:
    if name == STDIN:
        return [name]
    if os.path.isdir(name):
        files = _inside(name)
        if not files:
            types = ", ".join(FILE_TYPES)
            raise DataError(f"expected pictures in the folder {name} ({types}), found none")
        return files
    if os.path.exists(name):
        return [name]
    if _PATTERN.search(name):
        matched = sorted(_matching(name), key=natural)
        files = [path for path in matched if not os.path.isdir(path)]
        if not files:
            raise DataError(f"expected pictures that match `{name}`, found none")
        return files
    raise UsageError(f"expected a picture, a folder or a pattern, got `{name}`, which is not there")


def _matching(pattern: str) -> set[str]:
    """What has such a name, but `**` follows no link that leads back: glob's never ends on two."""
    parts = pattern.replace(os.sep, "/").split("/")
    if "**" not in parts:
        return set(glob.glob(pattern))
    at = parts.index("**")
    head, rest = "/".join(parts[:at]), "/".join(parts[at + 1 :]) or "*"
    places = ["/"] if at and not head else glob.glob(head) if at else ["."]
    named: set[str] = set()
    for folder in (f for p in places if os.path.isdir(p) for f, _, _ in searched(p, ())):
        place = os.path.join(folder, "") if at else os.path.join(folder, "").removeprefix("./")
        named |= _matching(glob.escape(place) + rest)
    return named


def _inside(folder: str) -> list[str]:
    """Pictures of a folder and of all that lie in it, but hidden ones."""
    listed = searched(folder, FILE_TYPES)
    files = [os.path.join(place, name) for place, names, _ in listed for name in names]
    return sorted(files, key=natural)


def from_stdin() -> io.BytesIO:
    """The bytes on standard input.

    Raises:
        DataError: there are none, or it is closed.
    """
    stream = None if sys.stdin is None else sys.stdin.buffer
    data = b"" if stream is None else stream.read()
    if not data:
        raise DataError("nothing came on standard input")
    return io.BytesIO(data)
