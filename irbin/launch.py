"""How this process was started: alone, or as one of several by `torchrun` or Slurm's `srun`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from irbin.errors import UsageError


@dataclass(frozen=True)
class Launch:
    """This process among those that were started together; alone by default."""

    rank: int = 0
    """Its number among all."""
    local_rank: int = 0
    """Its number among those of its machine."""
    size: int = 1
    """How many there are, on all machines."""
    local_size: int = 1
    """How many there are on a machine, the fullest one where they differ."""


def launched() -> Launch:
    """What the environment says: `torchrun`'s variables, else those of a step of Slurm."""
    in_step = _number("SLURM_STEP_NUM_TASKS", 1) > 1  # others stand in every shell of an allocation
    by_slurm = in_step and "WORLD_SIZE" not in os.environ
    local_rank = _number("LOCAL_RANK", _number("SLURM_LOCALID", 0) if by_slurm else 0)
    rank = _number("RANK", _number("SLURM_PROCID", 0) if by_slurm else local_rank)
    size = _number("WORLD_SIZE", _number("SLURM_STEP_NUM_TASKS", 1) if by_slurm else 1)
    each = re.findall(r"(\d+)(?:\(x\d+\))?", os.environ.get("SLURM_STEP_TASKS_PER_NODE", ""))
    local_size = max(map(int, each), default=size) if by_slurm else size  # as in 8(x2),4
    return Launch(rank, local_rank, size, min(size, _number("LOCAL_WORLD_SIZE", local_size)))


def check_launch() -> None:
    """Refuses to be the only process where Slurm was asked for several.

    Raises:
        UsageError: this is a shell or a batch script of such an allocation.
    """
    n_tasks = _number("SLURM_NTASKS", 1)
    if n_tasks > 1 and launched().size == 1 and "WORLD_SIZE" not in os.environ:
        raise UsageError(
            f"expected a process for each of this Slurm allocation's {n_tasks} tasks, got this one "
            "alone: start it by `srun` or `torchrun`, or by `env -u SLURM_NTASKS` to run alone"
        )


def _number(name: str, default: int) -> int:
    """A variable of the environment that holds a whole number."""
    word = os.environ.get(name, "")
    return int(word) if word.isdecimal() else default
