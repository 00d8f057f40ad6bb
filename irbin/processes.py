"""The processes of a run: one, or several that `torchrun` started, through timm's set-up.

Everything here is a no-op for one process, so no caller asks how many there are. What the others
have to say comes as sums and maxima; what must be the same everywhere is the first one's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor

from irbin.errors import LostProcessError, UsageError


@dataclass(frozen=True)
class Group:
    """The processes that work together, as one of them sees it."""

    rank: int = 0
    """This one's number; the first, 0, alone writes and reports."""
    size: int = 1
    """How many there are, on all machines."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    """Where this one computes."""

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of every process's `tensor`, in place, and returned."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def max(self, tensor: Tensor) -> Tensor:
        """The largest of every process's `tensor`, element by element, in place, and returned."""
        if self.size > 1:
            dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return tensor

    def any(self, flag: bool) -> bool:
        """Whether `flag` is true in any process."""
        if self.size == 1:
            return flag
        return bool(self.max(torch.tensor(float(flag), device=self.device)))

    def share(self, tensor: Tensor) -> Tensor:
        """The first process's `tensor`, in place, and returned."""
        if self.size > 1:
            dist.broadcast(tensor, 0)
        return tensor

    def wait(self) -> None:
        """Returns when every process has come here."""
        self.any(False)


ALONE = Group()
"""One process on the CPU."""


def alone(device: torch.device) -> Group:
    """One process on that device."""
    return Group(device=device)


@contextmanager
def joined(device: str) -> Iterator[Group]:
    """The group that `torchrun` (or Slurm) started this process in; alone where it did not.

    Args:
        device: torch's name; in a group each process takes the one of its local number.

    Raises:
        LostProcessError: within, another process of the group ended.
        UsageError: the device is not there, or the processes do not find each other.
    """
    from timm.utils.distributed import init_distributed_device_so, is_distributed_env

    if not is_distributed_env():
        yield alone(_checked(device))
        return
    is_ours = not dist.is_initialized()
    try:
        if is_ours:
            found = init_distributed_device_so(device)
            group = Group(found["global_rank"], found["world_size"], torch.device(found["device"]))
        else:
            group = Group(dist.get_rank(), dist.get_world_size(), _checked(device))
    except (RuntimeError, ValueError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise UsageError(
            "expected the processes that torchrun started to find each other and their "
            f"`--device {device}`, got: {first}"
        ) from error
    try:
        yield group
    except RuntimeError as error:
        if not _is_lost(error):
            raise
        raise LostProcessError(
            "expected all processes of the run to stay, but one ended; what was saved before is "
            "kept: look for its message, and go on with `--resume`"
        ) from error
    finally:
        if is_ours:
            dist.destroy_process_group()


def _checked(name: str) -> torch.device:
    """The device of that name.

    Raises:
        UsageError: torch knows no such device, or has none here.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
        if device.type == "cuda" and device.index is not None:  # else others' defaults are GPU 0
            torch.cuda.set_device(device)
    except (RuntimeError, AssertionError, ImportError) as error:
        first = str(error).splitlines()[0]
        raise UsageError(
            f"`device`: expected one this torch can use, got `{name}`: {first}"
        ) from error
    return device


def _is_lost(error: RuntimeError) -> bool:
    """Whether a collective failed because somebody is gone; gloo says so only in words."""
    if isinstance(error, dist.DistError):
        return True
    words = ("Connection closed by peer", "Connection reset", "Broken pipe", "gloo", "NCCL")
    return any(word in str(error) for word in words)
