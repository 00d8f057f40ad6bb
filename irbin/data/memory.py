"""How much memory there is for images."""

from __future__ import annotations

import os
from pathlib import Path

import torch

_CGROUP = Path("/sys/fs/cgroup")


def free_bytes(device: torch.device | None = None) -> int:
    """Free memory of a CUDA device; without one, RAM that can be had without swapping.

    A container's limit counts where there is one.
    """
    if device is not None:
        return int(torch.cuda.mem_get_info(device)[0])
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free = 1024 * int(line.split()[1])
        limit = (_CGROUP / "memory.max").read_text().strip()
        if limit != "max":
            used = int((_CGROUP / "memory.current").read_text())
            for line in (_CGROUP / "memory.stat").read_text().splitlines():
                if line.startswith("inactive_file "):  # files that were read, given up at need
                    used -= int(line.split()[1])
            free = min(free, max(0, int(limit) - used))
    except (OSError, ValueError):  # another system, or another way of limiting
        pass
    return free
