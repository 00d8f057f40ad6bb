"""How much memory there is for images."""

from __future__ import annotations

from pathlib import Path

import psutil
import torch

_CGROUP = Path("/sys/fs/cgroup")


def free_bytes(device: torch.device | None = None) -> int:
    """Free memory of a CUDA device; without one, RAM that can be had without swapping.

    A container's limit counts where there is one. 0 where the system does not tell.
    """
    if device is not None:
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        free = int(psutil.virtual_memory().available)
    except (OSError, RuntimeError, NotImplementedError):  # no /proc; another system
        free = 0
    limit = _room_in_container()
    return free if limit is None else min(free, limit)


def _room_in_container() -> int | None:
    """What a control group (version 2) leaves; None without a limit. psutil asks the machine."""
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        if limit == "max":
            return None
        used = int((_CGROUP / "memory.current").read_text())
        for line in (_CGROUP / "memory.stat").read_text().splitlines():
            if line.startswith("inactive_file "):  # files that were read, given up at need
                used -= int(line.split()[1])
        return max(0, int(limit) - used)
    except (OSError, ValueError):  # another system, or another way of limiting
        return None
