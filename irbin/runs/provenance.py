"""Where and from which code a run was made, for its args.yaml."""

from __future__ import annotations

import os
import subprocess

import torch

from irbin.hardware import n_cores, processor
from irbin.records.json import JsonValue


def hardware(device: torch.device) -> dict[str, JsonValue]:
    """Processor, cores, memory in GB, and the name of the device where it is another."""
    facts: dict[str, JsonValue] = {"processor": processor(), "cores": n_cores()}
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        facts["memory_gb"] = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9)
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
    return facts


def git_revision() -> dict[str, JsonValue] | None:
    """Revision of the working directory's repository, and whether files differ; None outside."""
    revision = _git("rev-parse", "HEAD")
    if revision is None:
        return None
    return {"revision": revision, "modified": bool(_git("status", "--porcelain", "-uno"))}


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *words], capture_output=True, text=True, check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
