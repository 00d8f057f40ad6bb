"""How many threads a packed network uses: torch's number, or without torch the CPUs it may use.

Those are the CPUs of the affinity mask, and of them the share that control groups grant (a
container's limit); no number exceeds them. A forked child has none of its parent's
threads. torch's operators wait there for ever for OpenMP's, so there they run on one thread;
irbin's kernels start threads of their own.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import WeakMethod, WeakSet

from irbin.errors import UsageError
from irbin.records.bench import MOST_THREADS


class _State:
    """What a fork leaves to a child."""

    asked: int | None = None
    """By `set_num_threads`; torch's number goes before it once torch knows of it."""
    torch_was_told: bool = False
    """torch may be loaded after its number was asked for."""
    in_child: int | None = None
    """In a forked child: what the number was; else None."""
    n_cpus: int = 0
    looked_at: float = -math.inf
    """When `n_cpus` was read, in seconds of the monotonic clock."""


_forgetting: WeakSet[Forgetting] = WeakSet()


class Forgetting:
    """What holds locks or plans of the moment: told in a forked child to begin anew."""

    def __init__(self, begin: WeakMethod[Callable[[], None]]) -> None:
        self.begin = begin
        _forgetting.add(self)


def set_num_threads(n: int) -> None:
    """How many threads packed networks compute on, and torch's own operators, once torch is loaded.

    Kernels take no more than the CPUs that the process may use. In a forked child it is only
    they.

    Raises:
        UsageError: n is no number of at least 1, or is more than 4096.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise UsageError(f"`n`: expected at least 1 thread, got {n!r}")
    if n > MOST_THREADS:
        raise UsageError(f"`n`: expected at most {MOST_THREADS} threads, got {n}")
    _State.asked, _State.torch_was_told = n, False
    if _State.in_child is not None:
        _State.in_child = n
    else:
        _torchs_number()


def kernel_threads() -> int:
    """Threads of irbin's kernels; in a forked child the first call sets torch's own number to 1."""
    if _State.in_child is None:
        n = _torchs_number() or _State.asked or _number_without_torch()
    else:
        n = _State.in_child
        torch = _torch()
        if torch is not None and torch.get_num_threads() > 1:
            torch.set_num_threads(1)
    return n if n == 1 else min(n, _known_cpus())


def _torch() -> Any:
    """None where nobody loaded it, or somebody is about to."""
    torch = sys.modules.get("torch")
    return torch if hasattr(torch, "get_num_threads") else None


def _torchs_number() -> int | None:
    """Its number of threads, which is told what was asked for first; None without torch."""
    torch = _torch()
    if torch is None:
        return None
    if _State.asked is not None and not _State.torch_was_told:
        _State.torch_was_told = True
        torch.set_num_threads(_State.asked)
    return int(torch.get_num_threads())


def _number_without_torch() -> int:
    """As torch would have it: `OMP_NUM_THREADS`, or what there is."""
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(asked) if asked.isdecimal() and int(asked) > 0 else _known_cpus()


def _known_cpus() -> int:
    """`usable_cpus`, read anew once a second: limits may change while a process runs."""
    now = time.monotonic()
    if now - _State.looked_at >= 1:
        _State.n_cpus, _State.looked_at = usable_cpus(), now
    return _State.n_cpus


def usable_cpus(root: Path = Path("/")) -> int:
    """CPUs that this process may use at once, at least 1: affinity mask and control groups' quotas.

    Args:
        root: where `proc` and `sys` are.
    """
    n = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([n, *(math.ceil(quota) for quota in _quotas(root))]))


def _quotas(root: Path) -> list[float]:
    """In CPUs, of the process's group and of each above it, of either version of control groups."""
    quotas = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, group = (*line.split(":", 2), "", "")[:3]
        if controllers == "":
            mounts = [root / "sys/fs/cgroup", root / "sys/fs/cgroup/unified"]
        elif "cpu" in controllers.split(","):
            mounts = [root / "sys/fs/cgroup" / name for name in ("cpu", controllers)]
        else:
            continue
        inside = Path(group.lstrip("/"))
        for folder in (mount / one for mount in mounts for one in (inside, *inside.parents)):
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if controllers else ("cpu.max",)
            words = " ".join(_read(folder / name) for name in names).split()
            quotas += [int(words[0]) / int(words[1])] if _is_quota(words) else []
    return quotas


def _is_quota(words: list[str]) -> bool:
    """Not `max` or -1, which are none."""
    return len(words) == 2 and all(word.isdecimal() and int(word) > 0 for word in words)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""


def _begin_anew() -> None:
    if _State.in_child is None:
        _State.in_child = _torchs_number() or _State.asked or _number_without_torch()
    for one in list(_forgetting):
        begin = one.begin()
        if begin is not None:
            begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
