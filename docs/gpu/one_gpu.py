"""What only a GPU can show, in ten minutes: prints a line a check, PASS or FAIL.

    python docs/gpu/one_gpu.py data/cifar10 /tmp/one-gpu
    python docs/gpu/one_gpu.py data/cifar10 /tmp/one-gpu --device cpu --steps 4

DATA is CIFAR-10 as an image folder, OUT a folder that is not there yet. The second line is a
rehearsal without a GPU: what belongs to CUDA is named by SKIP. No GPU has run it yet.
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import irbin
from irbin import DataOptions
from irbin.binary.layers import binary_layers, phase_of
from irbin.data.augment import BatchAugmentation
from irbin.data.images import Augmentation
from irbin.records.options import Preprocessing
from irbin.records.training import RunRecord, StepRecord

BATCH = 128


class Heard(logging.Handler):
    """What irbin logged since it was last cleared."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps a message."""
        self.notes.append(record.getMessage())

    @property
    def fell_back(self) -> bool:
        """Whether torch.compile failed."""
        return any("torch.compile failed" in note for note in self.notes)


@contextmanager
def listening() -> Iterator[Heard]:
    """Hears what irbin logs within; afterwards its log is as it was."""
    heard, log = Heard(), logging.getLogger("irbin")
    log.addHandler(heard)
    try:
        yield heard
    finally:
        log.removeHandler(heard)


@dataclass
class Trained:
    """A run, and what it told."""

    record: RunRecord
    losses: list[float] = field(default_factory=list)
    speed: float = 0.0
    """Images per second, over the second half of the reports."""
    n_steps: int = 0
    """Of its epoch."""
    waiting: float = 0.0
    """Share of the time that steps waited for images."""


class Checks:
    """The checks, and what they share.

    Args:
        data: folder of images.
        out: where runs are written.
        device: `cuda`, or `cpu` to rehearse.
        steps: where a run stops; 0 trains its whole epoch.
        heard: hears irbin's log.
    """

    def __init__(self, data: Path, out: Path, device: str, steps: int, heard: Heard) -> None:
        self.data = DataOptions(data_dir=str(data), batch_size=BATCH)
        self.out, self.device, self.steps = out, device, steps
        self.on_gpu = device != "cpu"
        self.n_failed = 0
        self.heard = heard
        out.mkdir(parents=True)
        irbin.convert("paper:resnet20", out / "conv", shortcut="bireal")

    def say(self, passed: bool, what: str) -> None:
        """One line."""
        self.n_failed += not passed
        print("PASS" if passed else "FAIL", what, flush=True)

    def skip(self, what: str) -> None:
        """One line: only a GPU can show it."""
        print("SKIP", what, flush=True)

    def train(self, name: str, *, stop_at: int = 0, resume: bool = False, **knobs: Any) -> Trained:
        """Trains the converted network for an epoch, or until a step."""
        last, clock, losses, waits = stop_at or self.steps, [], [], [0.0]
        n_steps = 0

        def report(step: StepRecord) -> None:
            nonlocal n_steps
            n_steps = step.n_steps
            clock.append((time.perf_counter(), step.step))
            losses.append(step.loss)
            waits.append(step.waiting)
            if last and step.step >= last:
                raise KeyboardInterrupt

        self.heard.notes.clear()
        interval = max(1, min(20, last // 2)) if last else 20
        overrides = {
            "epochs": 1,
            "distill": False,
            "log_interval": interval,
            "seed": 1,
            "warmup_epochs": 0,
            **knobs,
        }
        record = irbin.finetune(
            self.out / "conv",
            self.out / name,
            data=self.data,
            overrides=overrides,
            resume=resume,
            teacher="paper:resnet20" if overrides["distill"] else None,
            device=self.device,
            report=report,
        )
        if not clock:
            raise RuntimeError(f"{name}: no step was reported; had the run ended before?")
        begin, end = clock[len(clock) // 2], clock[-1]
        speed = BATCH * (end[1] - begin[1]) / max(end[0] - begin[0], 1e-9)
        return Trained(record, losses, speed, n_steps, waits[-1])

    def graphs(self) -> None:
        """CUDA graphs start, learn the same, and pay; images on the device are not waited for."""
        eager = self.train("eager", compile=False)
        graphs = self.train("graphs", compile=True)
        self.say(not self.heard.fell_back, "compiled: no fall-back")
        apart = abs(eager.losses[-1] - graphs.losses[-1])
        self.say(apart < 0.15, f"loss, eager and compiled: {apart:.3f} apart")
        if not self.on_gpu:
            self.skip("what compiling gains, and how long steps wait for images")
        else:
            text = f"images/s: compiled {graphs.speed:.0f}, eager {eager.speed:.0f}"
            self.say(graphs.speed > 1.5 * eager.speed, text)
            self.say(graphs.waiting < 0.3, f"waiting for images: {graphs.waiting:.2f} of the time")

    def slope(self) -> None:
        """EDE's t reaches a compiled layer between replays.

        One layer: behind several, another rounding turns signs, and all gradients with them.
        """
        module = next(iter(binary_layers(irbin.open_network(self.out / "conv").module).values()))
        module = module.to(self.device, memory_format=torch.channels_last).train()
        images = torch.randn(BATCH, int(module.weight.shape[1]), 32, 32, device=self.device)
        images = images.to(memory_format=torch.channels_last)
        fast = torch.compile(module, mode="reduce-overhead" if self.on_gpu else None)
        for _ in range(3 if self.on_gpu else 1):
            gradient(fast, module, images)
        asked = (0.0, 0.5, 1.0)
        found: dict[float, list[Tensor]] = {}
        for progress in asked:
            phase_of(module).set_progress(progress)
            found[progress] = [gradient(net, module, images) for net in (fast, module)]
        for progress in asked:
            away = [_apart(found[progress][0], found[other][1]) for other in asked]
            own = away.pop(asked.index(progress))
            told = f"{own:.1e} from the uncompiled gradient, {min(away):.1e} from another t's"
            self.say(own < 1e-3 < min(away), f"progress {progress}: {told}")

    def crops(self) -> None:
        """Crops, flips and colors have the bytes that they have on the CPU."""
        like = Preprocessing((3, 32, 32), (0.5,) * 3, (0.25,) * 3, "bilinear", 1.0)
        pixels = np.random.default_rng(0).integers(0, 256, (512, 3, 32, 32), np.uint8)
        images = torch.from_numpy(pixels)
        for padding in (4, 0):
            knobs = Augmentation(
                crop_padding=padding, color_jitter=0.4, train_interpolation="random"
            )
            augment = BatchAugmentation(knobs, like)
            draws = augment.drawn(0, 0, np.arange(len(images)))
            wanted, found = augment(images, draws), augment(images.to(self.device), draws)
            n_other = int((wanted != found.cpu()).sum())
            self.say(n_other == 0, f"padding {padding}: {n_other} bytes unlike the CPU's")

    def waits(self) -> None:
        """The CPU does not wait for the GPU in a step."""
        if not self.on_gpu:
            self.skip("calls that wait for the GPU")
            return
        torch.cuda.set_sync_debug_mode("warn")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.train("sync", stop_at=100, compile=False, log_interval=100)
        torch.cuda.set_sync_debug_mode("default")
        n = sum("synchroniz" in str(one.message) for one in caught)
        self.say(n < 60, f"{n} synchronizing calls in 100 steps and the preparation")

    def resume(self) -> None:
        """A run that was stopped goes on at the same loss, also with a fused optimizer."""
        kinds: dict[str, dict[str, Any]] = {"plain": {}, "fused": {"opt_kwargs": {"fused": True}}}
        for name, more in kinds.items():
            whole = self.train(f"{name}-whole", compile=False, **more)
            half = (self.steps or whole.n_steps) // 2
            self.train(f"{name}-half", stop_at=half, compile=False, **more)
            found = self.train(f"{name}-half", resume=True, compile=False, **more)
            apart = abs(found.losses[-1] - whole.losses[-1])
            self.say(apart < 0.02, f"{name}: loss resumed and in one go {apart:.4f} apart")

    def paths(self) -> None:
        """Every other way to train runs, and compiles."""
        ways: dict[str, dict[str, Any]] = {
            "half": {"amp": "float16" if self.on_gpu else "bfloat16", "clip_grad": 1.0},
            "blocks": {"distill": True, "distill_blocks": 1.0, "compile": True},
            "mixed": {
                "model_ema": True,
                "mixup": 0.2,
                "cutmix": 1.0,
                "reprob": 0.3,
                "color_jitter": 0.4,
                "compile": True,
            },
            "stages": {"epochs": 2, "float_epochs": 1, "compile": True},
            "accum": {"grad_accum_steps": 2, "compile": True},
        }
        for name, knobs in ways.items():
            run = self.train(name, **knobs)
            self.say(not self.heard.fell_back, f"{name}: loss {run.losses[-1]:.3f}")

    def answers(self) -> None:
        """The device, the CPU and the packed network give the same answers, up to rounding."""
        irbin.export(self.out / "eager", self.out / "packed")
        here = irbin.evaluate(self.out / "eager", data=self.data, device=self.device)
        cpu = irbin.evaluate(self.out / "eager", data=self.data)
        packed = irbin.evaluate(self.out / "packed", data=self.data)
        text = f"{here.top1:.2f} and {here.loss:.4f}, CPU {cpu.top1:.2f} and {cpu.loss:.4f}"
        text += f", packed {packed.top1:.2f} and {packed.loss:.4f}"
        # the float layers of a packed network sum in another order, which turns a sign next to zero
        same = abs(cpu.top1 - packed.top1) < 0.1 and abs(cpu.loss - packed.loss) < 2e-3
        self.say(abs(here.loss - cpu.loss) < 2e-3 and same, text)

    def all(self) -> list[Callable[[], None]]:
        """In order; later ones use what earlier ones trained."""
        return [
            self.graphs,
            self.slope,
            self.crops,
            self.waits,
            self.resume,
            self.paths,
            self.answers,
        ]


def gradient(net: Callable[[Tensor], Tensor], module: nn.Module, images: Tensor) -> Tensor:
    """Of the outputs' mean square, all parameters in one row, by `net`, which computes `module`."""
    module.zero_grad()
    net(images).float().square().mean().backward()  # type: ignore[no-untyped-call]  # torch's gap
    grads = [p.grad.flatten() for p in module.parameters() if p.grad is not None]
    flat = torch.cat(grads).clone()
    module.zero_grad()
    return flat


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


def main() -> int:
    """Runs the checks; 1 if one failed."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=0, help="stop every run there; 0: an epoch")
    parser.add_argument("--only", nargs="*", default=[], help="names of checks; graphs is first")
    given = parser.parse_args()
    if given.steps == 1:
        parser.error("--steps: expected 0 or at least 2, so that there is a middle to stop at")
    with listening() as heard:
        checks = Checks(given.data, given.out, given.device, given.steps, heard)
        for check in checks.all():
            if given.only and check.__name__ not in given.only:
                continue
            try:
                check()
            except Exception as error:  # the others are still worth running
                checks.say(False, f"{check.__name__}: {type(error).__name__}: {str(error)[:200]}")
    return 1 if checks.n_failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
