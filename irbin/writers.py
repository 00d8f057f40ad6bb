"""One writer at a time: a second process that would write the same place is refused in one line.

The system's locks (flock) go with the process that holds them, however it ends, so nothing that a
killed one leaves stands in the way. Where there are none (Windows, some network file systems)
nobody is refused.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from irbin.errors import UsageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_TAKEN = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)


@contextmanager
def sole_writer(folder: Path, *, make: bool = True) -> Iterator[bool]:
    """Within, this process alone writes what is in `folder`; yields whether it had to be made.

    A folder that was made and holds nothing at the end is removed. One that cannot be made is left
    to whoever writes into it, and tells.

    Args:
        folder: of a run, say, that is written file by file.
        make: make it where there is none.

    Raises:
        UsageError: another process is writing there.
    """
    missing = [path for path in (folder, *folder.parents) if make and not path.exists()]
    is_new = False
    with suppress(OSError):
        for path in reversed(missing):
            path.mkdir()
            is_new = path == folder
    descriptor = _locked(folder, folder, os.O_RDONLY) if folder.is_dir() else None
    try:
        yield is_new
    finally:
        with suppress(OSError):  # something is in it
            for path in missing:
                path.rmdir()
        _release(descriptor)


@contextmanager
def claimed_folder(partial: Path, path: Path) -> Iterator[None]:
    """Within, `partial` is an empty folder that no other process fills.

    Args:
        partial: where `path` is written; what a killed process left there goes.
        path: what it will be, to be told.

    Raises:
        UsageError: another process is writing it.
        OSError: the system refuses.
    """
    if partial.is_symlink() or partial.is_file():
        partial.unlink(missing_ok=True)
    while True:
        with suppress(FileExistsError):
            partial.mkdir()
        with suppress(FileNotFoundError):  # its writer gave it its name meanwhile
            descriptor = _locked(partial, path, os.O_RDONLY)
            if _is_there(descriptor, partial):
                break
            _release(descriptor)
    try:
        for stale in partial.iterdir():
            _remove(stale)
        yield
    finally:
        _release(descriptor)


@contextmanager
def claimed_file(partial: Path, path: Path, *, waits: bool) -> Iterator[None]:
    """Within, no other process writes the file `partial`, which is there, and empty.

    Args:
        partial: where `path` is written; what a killed process left there goes.
        path: what it will be, to be told.
        waits: for another process, which will soon have done; else it is refused.

    Raises:
        UsageError: another process is writing it.
        OSError: the system refuses.
    """
    while True:
        descriptor = _locked(partial, path, os.O_RDWR | os.O_CREAT, waits=waits)
        if _is_there(descriptor, partial):
            break
        _release(descriptor)
    try:
        if descriptor is not None:
            os.ftruncate(descriptor, 0)
        yield
    finally:
        _release(descriptor)


def _locked(place: Path, path: Path, flags: int, *, waits: bool = False) -> int | None:
    """An open descriptor of `place` that holds its lock; None where the system has no locks."""
    if fcntl is None:
        return None
    descriptor = os.open(place, flags, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno not in _TAKEN:  # a file system without locks
            return descriptor
        os.close(descriptor)
        raise UsageError(
            f"`{path}` is being written by another process: wait until it has ended, or choose "
            "another place"
        ) from error
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _is_there(descriptor: int | None, place: Path) -> bool:
    """Whether what was locked still has its name: its writer may have renamed it just before."""
    if descriptor is None:
        return True
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(place))
    except FileNotFoundError:
        return False


def _release(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
