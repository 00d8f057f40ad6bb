"""How much memory there is for images."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path

import torch

_CGROUP = Path("/sys/fs/cgroup")
_MACOS_REUSABLE = ("free", "inactive", "speculative", "purgeable")
"""Kinds of pages in macOS's `vm_stat` that can be had without swapping."""


def free_bytes(device: torch.device | None = None) -> int:
    """Free memory of a CUDA device; without one, RAM that can be had without swapping.

    A container's limit counts where there is one. 0 where the system does not tell.
    """
    if device is not None:
        return int(torch.cuda.mem_get_info(device)[0])
    if sys.platform == "win32":
        return _of_windows()
    return _of_macos() if sys.platform == "darwin" else _of_linux()


def _of_linux() -> int:
    free = _physical()
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


def _of_macos() -> int:
    try:
        done = subprocess.run(["vm_stat"], capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return _physical()
    return _reusable(done.stdout) or _physical()


def _reusable(vm_stat: str) -> int | None:
    """Bytes that macOS's `vm_stat` counts as reusable; None if it is not its output."""
    size = re.search(r"page size of (\d+) bytes", vm_stat)
    kinds = "|".join(_MACOS_REUSABLE)
    pages = re.findall(rf"^Pages (?:{kinds}):\s+(\d+)\.$", vm_stat, re.MULTILINE)
    return int(size[1]) * sum(map(int, pages)) if size and pages else None


def _of_windows() -> int:
    class Status(ctypes.Structure):  # MEMORYSTATUSEX
        _fields_ = (
            ("size", ctypes.c_uint32),
            ("load_percent", ctypes.c_uint32),
            ("physical", ctypes.c_uint64),
            ("free", ctypes.c_uint64),
            ("others", ctypes.c_uint64 * 5),
        )

    status = Status(size=ctypes.sizeof(Status))
    kernel: object = getattr(ctypes, "windll", None)
    ask = getattr(getattr(kernel, "kernel32", None), "GlobalMemoryStatusEx", None)
    return int(status.free) if ask is not None and ask(ctypes.byref(status)) else 0


def _physical() -> int:
    """All memory of the machine, 0 where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf, others not these names
        return 0
