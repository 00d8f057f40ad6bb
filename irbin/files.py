"""Files and folders that appear whole or not at all: written beside their place, then renamed.

For the moment between two renames the old one stands at `<name>.previous`, where `current` finds it
if the program ends there. And JSON from strangers, read within bounds.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from irbin.bounds import MAX_DIGITS, MAX_JSON_BYTES, MAX_NESTING
from irbin.errors import UsageError
from irbin.messages import as_text, is_text, system_says
from irbin.writers import claimed_file, claimed_folder


def beside(path: Path) -> Path:
    """Where what will be `path` is written: `<name>.partial` in the same folder."""
    return path.with_name(f"{path.name}.partial")


def traces(path: Path) -> set[str]:
    """Names in its folder that a program which ends while it writes `path` may leave."""
    return {path.name, beside(path).name, _previous(path).name}


def check_place(path: Path) -> None:
    """Checks, before any long work, that a file or folder can be made at `path`.

    Makes an empty folder where the first of them would be made, and removes it: only the file
    system knows what it takes.

    Raises:
        UsageError: a file stands in the way, `path` is a device or a pipe, or the system refuses;
            the message names where.
    """
    check_replaceable(path)
    if not is_text(str(path)):
        raise UsageError(
            f"`{as_text(str(path))}` cannot be made: its name is not UTF-8; choose another place"
        )
    above = next(p for p in path.absolute().parents if p.exists() or p.is_symlink())
    if not above.is_dir():
        raise UsageError(f"`{path}` cannot be made: `{above}` is no folder; choose another place")
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".irbin-", dir=above))
    except OSError as error:
        raise UsageError(
            f"`{path}` cannot be made: the folder `{above}` takes no new files "
            f"({system_says(error)}); choose another place"
        ) from error


def check_replaceable(path: Path) -> None:
    """Checks that a rename onto `path` takes no device, pipe or socket away from the system.

    Raises:
        UsageError: it would.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise UsageError(
            f"expected the name of a file or folder to write, got `{path}`, a device or a pipe; "
            "choose another place"
        )


def write_file(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all; of two processes at once the later one's stays.

    Raises:
        UsageError: `path` is a device or a pipe.
    """
    check_replaceable(path)
    partial = beside(path)
    with named(path), claimed_file(partial, path, waits=True):
        try:
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except OSError:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Within, an error of the system that names no file, as that of a full disk, names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def put_file_in_place(partial: Path, path: Path) -> None:
    """Gives a finished file its name, once it is on the disk.

    Raises:
        UsageError: `path` is a device or a pipe.
    """
    check_replaceable(path)
    _flush(partial)
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


def read_json(path: Path) -> Any:
    """What a JSON file holds, within the bounds of `irbin.bounds`.

    Raises:
        ValueError: it is not JSON, too large, nested too deep, gives a key twice, or holds numbers
            that are not finite or have too many digits; the message is one line without the file's
            name.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(MAX_JSON_BYTES + 1)
    if len(content) > MAX_JSON_BYTES:
        raise ValueError(f"expected at most {MAX_JSON_BYTES} bytes of JSON")
    try:
        value = json.loads(
            content.decode("utf-8"),
            parse_int=_integer,
            parse_float=_finite,
            parse_constant=_no_number,
            object_pairs_hook=_each_once,
        )
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    _check_nesting(value)
    return value


_TOO_DEEP = f"expected at most {MAX_NESTING} levels of lists and objects"


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, of which no two readers can take different values."""
    made: dict[str, Any] = {}
    for name, value in pairs:
        if name in made:
            raise ValueError(f"expected each key once, got {name[:60]!a} twice")
        made[name] = value
    return made


def refuse_doubled_names(path: Path) -> None:
    """Checks that the header of a safetensors file gives each name once, if it is such a header.

    Raises:
        ValueError: one stands there twice: nobody can tell which of its tensors is meant.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        n_bytes = int.from_bytes(file.read(8), "little")
        header = file.read(min(n_bytes, MAX_JSON_BYTES))
    try:
        text = header.decode("utf-8").lstrip()
        pairs = json.JSONDecoder(object_pairs_hook=list).decode(text)
    except (ValueError, RecursionError):
        return
    if text.startswith("{"):
        _each_once(pairs)


def _integer(text: str) -> int:
    if len(text.removeprefix("-")) > MAX_DIGITS:
        raise ValueError(f"expected integers of at most {MAX_DIGITS} digits, got {text[:30]}…")
    return int(text)


def _finite(text: str) -> float:
    if not math.isfinite(float(text)):
        raise ValueError(f"expected finite numbers, got {text[:30]}")
    return float(text)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"expected finite numbers, got {text}")


def _check_nesting(value: Any) -> None:
    level = [value]
    for _ in range(MAX_NESTING + 1):
        inner = [
            v.values() if isinstance(v, dict) else v for v in level if isinstance(v, dict | list)
        ]
        level = [item for items in inner for item in items]
        if not level:
            return
    raise ValueError(_TOO_DEEP)


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


@contextmanager
def whole_folder(path: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """A new empty folder beside `path` that takes its place when the block ends well.

    Where the block raises, `path` stays as it was. An existing `path` is moved aside first, so that
    at every moment one of the two is complete.

    Args:
        path: to be written.
        overwrite: what stands there may go; checked when no other process can put something there.

    Raises:
        UsageError: another process is writing `path`, or has written it and it must not go.
        OSError: the system refuses; it names a file, `path` where the system names none.
    """
    path = path.absolute()
    partial = beside(path)
    with named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with claimed_folder(partial, path):
            try:
                refuse_taken(path, overwrite, True, "")
                yield partial
                put_in_place(partial, path)
            finally:
                remove(partial)


@contextmanager
def removed_on_error(path: Path) -> Iterator[None]:
    """Within, an exception removes the folder `path` on its way out."""
    try:
        yield
    except BaseException:
        remove(path)
        raise


MAX_POINTER_BYTES = 1024
"""Of the note that git leaves for a large file; its specification's bound."""


def pointer_size(head: bytes) -> str | None:
    """The bytes of the large file that git's note stands for, in words; None for another file.

    Args:
        head: the file's first `MAX_POINTER_BYTES`.
    """
    if not head.startswith(b"version https://") or b"git-lfs" not in head:
        return None
    size = re.search(rb"^size (\d+)$", head, re.MULTILINE)
    return f"{int(size[1]):,} bytes" if size else "unknown size"


def not_fetched(size: str) -> str:
    """What an error says of such a note, and what to do."""
    return (
        f"git's pointer to a file of {size} that was not fetched; run `git lfs pull` in its "
        "repository, or download the file itself"
    )


def refuse_taken(path: Path, overwrite: bool, is_such: bool, what: str) -> None:
    """Checks, before any work is done, that a folder may be written.

    Args:
        path: folder to write.
        overwrite: an existing one may go.
        is_such: it is what is about to be written.
        what: that, in words.

    Raises:
        UsageError: it exists, and is not such or must not go.
    """
    if not (path.exists() or path.is_symlink()) or (overwrite and is_such):
        return
    if is_such:
        raise UsageError(f"`{path}` exists; choose another folder, or give `overwrite=True`")
    raise UsageError(
        f"`{path}` exists and is no {what}, so `overwrite=True` will not delete it; choose another "
        "folder"
        if overwrite
        else f"`{path}` exists and is no {what}; choose another folder"
    )
