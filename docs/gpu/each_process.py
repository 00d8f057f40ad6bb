"""What each of two processes has to show about itself; `two_gpus.sh` starts them by torchrun.

    torchrun --standalone --nproc-per-node 2 docs/gpu/each_process.py contexts cuda -- eval NET …
    torchrun --standalone --nproc-per-node 2 docs/gpu/each_process.py overlap cuda

`contexts` runs an irbin command in this process and looks which GPUs it opened. `overlap` looks
whether gradients travel while others are still computed, for the ways to bring torch.compile and
DDP together. Prints a line a check, PASS, FAIL or SKIP. No GPU has run it yet.
"""

from __future__ import annotations

import ctypes
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

import irbin
from irbin.cli.app import main as run_irbin
from irbin.processes import Group, joined
from irbin.recipes.request import resolve_recipe
from irbin.training.parallel import parallel

Span = tuple[float, float]
"""Begin and end."""
N_STEPS = 10
OURS = "DDP around the compiled network"
RECIPE = resolve_recipe("quick", {}, converted=False)


def opened(driver: Any, n_gpus: int) -> list[int]:
    """Numbers of the GPUs on which this process has a context, by CUDA's driver."""
    found = []
    for number in range(n_gpus):
        device, flags, active = ctypes.c_int(), ctypes.c_uint(), ctypes.c_int()
        failed = driver.cuDeviceGet(ctypes.byref(device), number)
        failed = failed or driver.cuDevicePrimaryCtxGetState(
            device, ctypes.byref(flags), ctypes.byref(active)
        )
        if failed:
            raise RuntimeError(f"CUDA's driver says error {failed} about GPU {number}")
        if active.value:
            found.append(number)
    return found


def covered(spans: Iterable[Span], by: Iterable[Span]) -> float:
    """Share of the time of `spans` in which at least one of `by` runs; 0 where there are none."""
    merged: list[list[float]] = []
    for begin, end in sorted(by):
        if merged and begin <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([begin, end])
    spans = list(spans)
    total = sum(end - begin for begin, end in spans)
    both = sum(
        max(0.0, min(end, last) - max(begin, first))
        for begin, end in spans
        for first, last in merged
    )
    return both / total if total else 0.0


def contexts(device: str, words: list[str]) -> int:
    """Runs a command and says which GPUs it opened: the process's own, and no other."""
    local = int(os.environ.get("LOCAL_RANK", device.partition(":")[2] or 0))
    code = run_irbin([*words, "--device", device])
    if code != 0:
        print(f"FAIL process {local}: the command left with {code}", flush=True)
        return 1
    if not device.startswith("cuda"):
        print(f"SKIP process {local}: which GPUs a process opens", flush=True)
        return 0
    found = opened(ctypes.CDLL("libcuda.so.1"), torch.cuda.device_count())
    passed = found == [local]
    print("PASS" if passed else "FAIL", f"process {local} opened GPUs {found}", flush=True)
    return not passed


class Ways:
    """The ways to train in several processes: `step` for each, and what was measured."""

    def __init__(self, group: Group) -> None:
        self.group, self.on_gpu = group, group.device.type == "cuda"
        size = 128 if self.on_gpu else 2
        self.images = torch.randn(size, 3, 32, 32, device=group.device)
        self.images = self.images.to(memory_format=torch.channels_last)
        self.sent: list[float] = []
        """When buckets of gradients were sent in the present step."""

    def fresh(self) -> nn.Module:
        """A network of 45 MB, whose gradients fill several of DDP's buckets."""
        torch.manual_seed(0)
        net = irbin.open_network("paper:resnet18").module.to(self.group.device)
        return net.to(memory_format=torch.channels_last).train()

    def compiled(self, module: nn.Module) -> Any:
        """On the CPU without code made for it: how gradients come is the same."""
        return torch.compile(module, backend="inductor" if self.on_gpu else "aot_eager")

    def parallel(self, module: nn.Module, forward: Any = None) -> Any:
        """irbin's own DDP; on the CPU it notes when buckets are sent."""
        ddp: Any = parallel(module if forward is None else forward, module, RECIPE, self.group)
        if not self.on_gpu:  # a hook of Python's would change what is measured
            ddp.register_comm_hook(self, _send)
        return ddp

    def all(self) -> dict[str, Callable[[], Any]]:
        """Each way by its name."""

        def around() -> Any:
            module = self.fresh()
            fast = self.compiled(module)
            self.backward(fast)  # irbin compiles before it wraps
            module.zero_grad()
            return self.parallel(module, fast)

        return {
            "not compiled": lambda: self.parallel(self.fresh()),
            OURS: around,
            "DDP itself compiled": lambda: self.compiled(self.parallel(self.fresh())),
        }

    def backward(self, net: Callable[[Tensor], Tensor]) -> float:
        """One step without an optimizer; returns when its backward pass began."""
        loss = net(self.images).float().square().mean()
        self.sent.clear()
        begin = time.perf_counter()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's gap
        return begin

    def overlap(self, net: Any) -> float:
        """Share of the sending during which gradients are computed.

        By the profiler's kernels, on a GPU.
        """
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CUDA]) as profiler:
            self.backward(net)
            torch.cuda.synchronize()
        kernels = [e for e in profiler.events() if e.device_type == torch.autograd.DeviceType.CUDA]
        spans = [(("nccl" in e.name), (e.time_range.start, e.time_range.end)) for e in kernels]
        return covered(
            [span for sends, span in spans if sends], [span for sends, span in spans if not sends]
        )

    def first_sent(self, net: Any) -> float:
        """When the first bucket is sent, in shares of the time until the last one: 1 is together.

        On the CPU, where kernels that send and kernels that compute are not told apart.
        """
        begin = self.backward(net)
        return (self.sent[0] - begin) / (self.sent[-1] - begin)

    def seconds(self, net: Any) -> float:
        """Of a step, the median."""
        times = []
        for _ in range(N_STEPS):
            begin = time.perf_counter()
            self.backward(net)
            if self.on_gpu:
                torch.cuda.synchronize()
            times.append(time.perf_counter() - begin)
        return statistics.median(times)


def _send(ways, bucket):  # type: ignore[no-untyped-def]  # torch reads annotations
    ways.sent.append(time.perf_counter())
    future = dist.all_reduce(bucket.buffer(), async_op=True).get_future()
    return future.then(lambda done: done.value()[0] / ways.group.size)


def overlap(device: str) -> int:
    """A line for each way, and whether irbin's is not much slower than the best."""
    with joined(device) as group:
        ways = Ways(group)
        times = {}
        for name, make in ways.all().items():
            net = make()
            for _ in range(3):
                ways.backward(net)
            times[name] = ways.seconds(net)
            if ways.on_gpu:
                found = f"{ways.overlap(net):.2f} of the sending while gradients are computed"
            else:
                found = (
                    f"the first part sent after {ways.first_sent(net):.2f} of the time to the last"
                )
            if group.is_first:
                print(f"PASS {name}: {1000 * times[name]:.1f} ms a step, {found}", flush=True)
        if not group.is_first:
            return 0
        best = min(times, key=lambda name: times[name])
        if not ways.on_gpu:
            print("SKIP which way is the fastest", flush=True)
            return 0
        passed = times[OURS] < 1.1 * times[best]
        print("PASS" if passed else "FAIL", f"the fastest: {best}", flush=True)
        return not passed


def main() -> int:
    """Runs one of the two."""
    what, device, *words = sys.argv[1:]
    return (
        contexts(device, [w for w in words if w != "--"]) if what == "contexts" else overlap(device)
    )


if __name__ == "__main__":
    raise SystemExit(main())
