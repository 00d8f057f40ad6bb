"""How many threads a packed network uses: torch's, since kernels run on torch's pool.

A forked child has none of its parent's threads. torch's operators wait there for ever for OpenMP's,
so there they run on one thread; irbin's kernels start threads of their own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from weakref import WeakMethod, WeakSet

import torch

from irbin.errors import UsageError


class _State:
    """What a fork leaves to a child."""

    kernel_threads: int | None = None
    """In a forked child: what torch's number was; else None."""


_forgetting: WeakSet[Forgetting] = WeakSet()


class Forgetting:
    """What holds locks or plans of the moment: told in a forked child to begin anew."""

    def __init__(self, begin: WeakMethod[Callable[[], None]]) -> None:
        self.begin = begin
        _forgetting.add(self)


def set_num_threads(n: int) -> None:
    """How many threads packed networks compute on; torch's own operators too, as they share them.

    In a forked child it is only irbin's kernels.

    Raises:
        UsageError: n is no number of at least 1.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise UsageError(f"`n`: expected at least 1 thread, got {n!r}")
    if _State.kernel_threads is not None:
        _State.kernel_threads = n
        return
    torch.set_num_threads(n)


def kernel_threads() -> int:
    """Threads of irbin's kernels; in a forked child the first call sets torch's own number to 1."""
    if _State.kernel_threads is None:
        return torch.get_num_threads()
    if torch.get_num_threads() > 1:
        torch.set_num_threads(1)
    return _State.kernel_threads


def _begin_anew() -> None:
    if _State.kernel_threads is None:
        _State.kernel_threads = torch.get_num_threads()
    for one in list(_forgetting):
        begin = one.begin()
        if begin is not None:
            begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
