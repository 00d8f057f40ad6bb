"""The processor of this machine and its cores, by name."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")


def n_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor() -> str:
    """The processor's name, as the system tells it; an ARM without one is told by its numbers."""
    if sys.platform == "darwin":
        return _said("sysctl", "-n", "machdep.cpu.brand_string") or platform.machine()
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = {
        key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)
    }
    if name := facts.get("model name"):
        return name
    name = _lscpu() or _by_numbers(facts)
    board = facts.get("Model", "")  # of a Raspberry Pi
    return " ".join(filter(None, [board, f"({name})" if board and name else name])) or (
        platform.processor() or platform.machine()
    )


def _lscpu() -> str:
    """The name that lscpu knows for an ARM's numbers, as in `ARM Neoverse-N1`; '' if none."""
    entries: dict[str, str] = {}
    for line in _said("lscpu").splitlines():
        key, _, value = line.partition(":")
        entries.setdefault(key.strip(), value.strip())
    name = entries.get("Model name", "").strip("- ")
    return " ".join(filter(None, [entries.get("Vendor ID"), name])) if name else ""


def _by_numbers(facts: dict[str, str]) -> str:
    maker, part = facts.get("CPU implementer"), facts.get("CPU part")
    return f"{platform.machine()} implementer {maker} part {part}" if maker and part else ""


def _said(*command: str) -> str:
    """What a program of the system prints; '' where there is none or it fails."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=10,
            env={**os.environ, "LC_ALL": "C"},
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
