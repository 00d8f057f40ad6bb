"""The processes of a run: one, or several that `torchrun` or Slurm started.

Everything here is a no-op for one process, so no caller asks how many there are. What the others
have to say comes as sums and maxima; what must be the same everywhere is the first one's.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from irbin.errors import LostProcessError, TrainingError, UsageError
from irbin.launch import check_launch, launched
from irbin.messages import first_line


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

    def least(self, numbers: list[int]) -> list[int]:
        """The smallest of every process's numbers, place by place."""
        if self.size == 1:
            return numbers
        highest = self.max(-torch.tensor(numbers, dtype=torch.int64, device=self.device))
        return [-number for number in highest.tolist()]

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


_left_open = False
"""Whether an error went through the group: it then stays, see `leave`."""


@contextmanager
def joined(device: str) -> Iterator[Group]:
    """The group that `torchrun` or Slurm started this process in; alone where it did not.

    Within one another, all but the outermost take part in the same group, each on its own device.
    Tensors of the CPU are exchanged too where processes compute on GPUs.

    After an error the group is not taken down: NCCL waits then for processes that are gone. A
    program prints the error and calls `leave`.

    Args:
        device: torch's name; in a group each process takes the one of its local number.

    Raises:
        LostProcessError: within, another process of the group ended.
        TrainingError: within, NCCL failed for another reason.
        UsageError: the device is not there, or the processes do not find each other.
    """
    global _left_open
    launch = launched()
    check_launch()
    if launch.size == 1:
        yield alone(own_device(device))
        return
    is_ours = not dist.is_initialized()
    try:
        group = Group(launch.rank, launch.size, own_device(device))
        if is_ours:
            _meet(group)
    except (RuntimeError, ValueError, AssertionError) as error:
        if isinstance(error, UsageError):
            raise
        _left_open = dist.is_initialized()
        raise UsageError(
            "expected the processes that were started together to find each other and their "
            f"`device={device!r}`, got: {reason(error)}"
        ) from error
    try:
        yield group
    except BaseException as error:
        _left_open = _left_open or is_ours
        if is_ours and isinstance(error, RuntimeError):
            _explain(error)
        raise
    if is_ours:
        dist.destroy_process_group()
        _left_open = False


def leave(code: int) -> None:
    """Ends this process where an error left a group behind, with that exit code; else returns.

    Nothing is taken down: that waits for the others, who may be gone or wait for this one.
    """
    if _left_open:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # closed (`>&-`)
                stream.flush()
        os._exit(code)


@contextmanager
def told_once() -> Iterator[bool | None]:
    """Within, whether this process is the first of those that `torchrun` started to tell an error.

    The store that `torchrun` keeps for them counts, which outlives each of them. Whoever comes
    later goes on when the first one has left the block: `torchrun` ends all as soon as one has
    ended. None where no such store answers.
    """
    store = _launchers_store()
    place = None
    if store is not None:
        with suppress(RuntimeError):
            place = store.add("told", 1)
    if store is None or place is None:
        yield None
        return
    if place > 1:
        with suppress(RuntimeError):  # it was killed on the way
            store.wait(["said"], _PATIENCE)
    yield place == 1
    if place == 1:
        with suppress(RuntimeError):
            store.set("said", "")


_PATIENCE = timedelta(seconds=30)
"""For a store to answer, and for a process that began to tell an error to be done."""


def _launchers_store() -> Any:
    """That of `torchrun`, the part of this attempt; None without one."""
    names = ("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_USE_AGENT_STORE")
    host, port, is_served = (os.environ.get(name, "") for name in names)
    if is_served != str(True) or not port.isdecimal():
        return None
    c10d: Any = dist  # its stores have no types
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    try:
        store = c10d.TCPStore(host, int(port), is_master=False, timeout=_PATIENCE)
    except (RuntimeError, ValueError):
        return None
    return c10d.PrefixStore(f"irbin/{attempt}", store)


_BACKENDS = {"cuda": "cpu:gloo,cuda:nccl", "xpu": "cpu:gloo,xpu:xccl"}
"""Who carries tensors, by what the processes compute on; else gloo."""


def _meet(group: Group) -> None:
    """Waits for the others, and shows that tensors can be exchanged: what fails later was lost."""
    backend = _BACKENDS.get(group.device.type, "gloo")
    dist.init_process_group(backend, rank=group.rank, world_size=group.size)
    group.wait()


_NUMBERED = ("cuda", "xpu")
"""Kinds of GPU of which a machine may have several."""


def _own(device: str, local_rank: int) -> str:
    """The device of a process with that number on its machine.

    Slurm's `--gpus-per-task` may show each process its own GPUs alone: then any of them is free.

    Raises:
        UsageError: there are more processes than GPUs.
    """
    kind = device.partition(":")[0]
    if kind not in _NUMBERED:
        return kind
    n_gpus = torch.get_device_module(kind).device_count()
    if n_gpus > 1 and local_rank >= n_gpus and "SLURM_GPUS_PER_TASK" not in os.environ:
        raise UsageError(
            f"expected a GPU for each process of this machine, got process {local_rank + 1} where "
            f"it sees {n_gpus} GPUs: start {n_gpus} a machine (`torchrun --nproc-per-node "
            f"{n_gpus}`), or let Slurm give each its own (`srun --gpus-per-task=1`)"
        )
    return f"{kind}:{local_rank % max(1, n_gpus)}"


def _explain(error: RuntimeError) -> None:
    """Raises what an error of a collective means, in one line; returns where it is another."""
    if _is_lost(error):
        last = last_error(error)
        raise LostProcessError(
            "expected all processes of the run to stay, but one ended; what was saved before is "
            "kept: look for its message, and go on with `resume=True`"
            + (f" (NCCL's: {last})" if last else "")
        ) from error
    if isinstance(error, dist.DistError):
        raise TrainingError(
            f"expected the processes to exchange tensors, got: {reason(error)}; `NCCL_DEBUG=INFO` "
            "in the environment tells more"
        ) from error


def last_error(error: Exception) -> str:
    """What stands behind NCCL's "Last error:", where the cause is; '' where there is none."""
    _, mark, rest = str(error).partition("Last error:")
    return " ".join(rest.split()) if mark else ""


def reason(error: Exception) -> str:
    """The line of an error that says why."""
    return last_error(error) or first_line(error)


def own_device(device: str) -> torch.device:
    """What this process computes on, opened: of several each takes the GPU of its local number.

    Called before a network is opened or converted: torch.export looks at the present GPU.

    Raises:
        UsageError: see `open_device`.
    """
    launch = launched()
    return open_device(_own(device, launch.local_rank) if launch.size > 1 else device)


def open_device(name: str) -> torch.device:
    """The device of that name, which a GPU with a number is from then on for all that names none.

    It is chosen before anything else touches it: pinned memory, generators and what libraries ask
    belong to the present GPU, and would open the first one in every process.

    Raises:
        UsageError: torch knows no such device, or has none here.
    """
    try:
        device = torch.device(name)
        if device.type in _NUMBERED and device.index is not None:
            _choose(device.type, device.index)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, ImportError) as error:
        raise UsageError(
            f"`device`: expected one this torch can use, got `{name}`: {first_line(error)}"
        ) from error
    return device


def _choose(kind: str, index: int) -> None:
    """Makes a GPU the present one; those that there are are counted without opening one."""
    backend = torch.get_device_module(kind)
    n_gpus = backend.device_count()
    if index >= n_gpus:
        raise RuntimeError(f"this process sees {n_gpus} GPUs")
    backend.set_device(index)


def _is_lost(error: RuntimeError) -> bool:
    """Whether a collective failed because somebody is gone; gloo and NCCL say so only in words."""
    if isinstance(error, (dist.DistNetworkError, dist.DistStoreError)):
        return True
    return any(word in str(error) for word in _WORDS_OF_LOSS)


_WORDS_OF_LOSS = (
    "Connection closed by peer",
    "Connection reset",
    "Broken pipe",
    "pair closure",
    "Socket closed",
    "Timed out waiting",
    "ncclRemoteError",
    "Connection closed by remote peer",
    "Watchdog caught collective operation timeout",
)
"""gloo's, then NCCL's, which may call a lost process an internal error (NVIDIA/nccl issue 795).

What else NCCL may report is no loss: a lack of memory, two processes on one GPU.
"""
