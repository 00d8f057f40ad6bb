"""Memory that a step frees is kept for the next one, instead of handed back to the system.

glibc returns the top of its heap to the system as soon as a few megabytes there are free, and a
step frees and takes hundreds: every page is then cleared and mapped anew, step after step, which in
small networks takes a quarter of the time (docs/training.md). Elsewhere nothing is done.
"""

from __future__ import annotations

import ctypes
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""glibc's `M_TRIM_THRESHOLD` and `M_MMAP_THRESHOLD` (malloc.h)."""

_LARGE = 1 << 30
_GLIBC_MAX = 32 << 20
"""The largest threshold that glibc chooses by itself, and, before 2.35, that it takes."""

_lock = threading.Lock()
_n_within = 0


@contextmanager
def memory_kept() -> Iterator[None]:
    """Within, freed memory stays with the process; on leaving the outermost, all of it goes back.

    For whatever computes on the CPU batch after batch. It holds for the whole process, may be
    nested and entered from several threads, and does nothing where the C library is not glibc or
    the environment tunes its malloc already (`MALLOC_…`, `GLIBC_TUNABLES`).
    """
    libc = _tunable()
    if libc is None:
        yield
        return
    _enter(libc)
    try:
        yield
    finally:
        _leave(libc)


def _enter(libc: ctypes.CDLL) -> None:
    global _n_within
    with _lock:
        _n_within += 1
        if _n_within == 1:
            libc.mallopt(_MMAP_THRESHOLD, _LARGE) or libc.mallopt(_MMAP_THRESHOLD, _GLIBC_MAX)
            libc.mallopt(_TRIM_THRESHOLD, -1)  # never


def _leave(libc: ctypes.CDLL) -> None:
    global _n_within
    with _lock:
        _n_within -= 1
        if _n_within == 0:  # to where glibc comes by itself once something large was freed
            libc.mallopt(_MMAP_THRESHOLD, _GLIBC_MAX)
            libc.mallopt(_TRIM_THRESHOLD, 2 * _GLIBC_MAX)
            libc.malloc_trim(0)


def _tunable() -> ctypes.CDLL | None:
    """The C library, where it is glibc and nobody tuned its malloc."""
    if platform.libc_ver()[0] != "glibc":
        return None
    if any(name.startswith("MALLOC_") for name in os.environ):
        return None
    if "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
