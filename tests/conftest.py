"""What several rooms' tests share: a tiny real-looking image folder, one thread for torch, and a
command line read as irbin reads it."""

from __future__ import annotations

import gc
import logging
import os
import shlex
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# a busy machine is no failure; CI repeats what it found, a developer's machine goes on looking
settings.register_profile("irbin", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("irbin")

# programs of maintainers are found in the checkout, irbin itself where it is installed
sys.path.append(str(Path(__file__).parents[1]))

torch.set_num_threads(1)  # tests are small; two spinning threads only slow each other down

# exporting a graph makes millions of objects, few of them in cycles: looking for these at Python's
# own pace takes an eighth of the suite's time
gc.freeze()
gc.set_threshold(100_000, 50, 100)

CLASSES = ("bars", "dots", "plain")


def draw(kind: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """A noisy picture of one class, uint8 (size, size, 3)."""
    picture = rng.integers(0, 60, (size, size, 3))
    if kind == "bars":
        picture[:, rng.integers(0, 4) :: 4] += 150
    elif kind == "dots":
        picture[rng.integers(0, 4) :: 4, rng.integers(0, 4) :: 4] += 190
    return picture.astype(np.uint8)


def write_pictures(folder: Path, size: int, n_train: int = 12, n_val: int = 6) -> Path:
    """An image folder `folder`/{train,val}/<class>/<n>.png of three classes."""
    rng = np.random.default_rng(0)
    for split, n in (("train", n_train), ("val", n_val)):
        for kind in CLASSES:
            (folder / split / kind).mkdir(parents=True)
            for index in range(n):
                file = folder / split / kind / f"{index}.png"
                Image.fromarray(draw(kind, size, rng)).save(file)
    return folder


@pytest.fixture(autouse=True)
def _log_as_it_was() -> Iterator[None]:
    """Whoever listens to irbin's log changes what later tests see: a warning becomes a line."""
    log = logging.getLogger("irbin")
    before = list(log.handlers)
    yield
    left, log.handlers = log.handlers, before
    assert left == before, f"{left} still listens to irbin's log"


@pytest.fixture(scope="session")
def pictures28(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """28×28 pictures; not to be changed."""
    return write_pictures(tmp_path_factory.mktemp("pictures") / "28", 28)


@cache
def _commands() -> dict[str, Any]:
    import typer  # most tests need no command line

    from irbin.cli.app import app

    group: Any = typer.main.get_command(app)
    return dict(group.commands)


def as_typed(line: str) -> tuple[str, dict[str, Any]]:
    """The command of a line `irbin COMMAND …` and the parameters that irbin reads from it."""
    program, command, *words = shlex.split(line)
    assert program == "irbin"
    values = _commands()[command].make_context(command, words).params
    return command, {name: None if value == () else value for name, value in values.items()}


IEEE = ("ieee",) * 6


def tf32() -> tuple[str, ...]:
    """What float32 may be rounded to, on GPUs, then on CPUs: in products of matrices,
    convolutions and recurrent layers."""
    gpu, rest, cpu = torch.backends.cuda.matmul, torch.backends.cudnn, torch.backends.mkldnn
    parts: Any = (gpu, rest.conv, rest.rnn, cpu.matmul, cpu.conv, cpu.rnn)
    return tuple(part.fp32_precision for part in parts)


class NoFloat64(TorchDispatchMode):
    """Within, tensors of float64 on these kinds of device are an error."""

    def __init__(self, *kinds: str) -> None:
        super().__init__()
        self.kinds = kinds

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for value in tree_leaves(found):
            if not isinstance(value, torch.Tensor) or value.dtype != torch.float64:
                continue
            if value.device.type in self.kinds:
                raise TypeError(f"{func} gives float64, which Apple's GPUs do not have")
        return found


@pytest.fixture
def no_float64(monkeypatch: pytest.MonkeyPatch) -> TorchDispatchMode:
    """A context in which float64 tensors are an error and sums have the type they have on mps."""
    monkeypatch.setattr("irbin.evaluation.tally.sum_type", lambda _: torch.float32)
    monkeypatch.setattr("irbin.training.meter.sum_type", lambda _: torch.float32)
    return NoFloat64("cpu")
