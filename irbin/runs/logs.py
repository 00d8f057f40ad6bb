"""Training's records sent on to TensorBoard or Weights & Biases while a run goes on.

`step` and `epoch` fit `finetune`'s `report` and `on_epoch`. Nothing is opened before the first
record, since the run folder is made when training begins. A log that fails is given up with one
warning: no training ends because a disk is full or a server away.
"""

from __future__ import annotations

import logging
import math
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import yaml

from irbin.errors import UsageError
from irbin.files import write_file
from irbin.messages import one_line
from irbin.records.training import EpochRecord, StepRecord

_log = logging.getLogger(__name__)
_Record = TypeVar("_Record")

_STEP_FIGURES = ("loss", "top1", "lr", "t", "k", "images_per_second", "waiting")


class Log(ABC):
    """Where a run's records go beside its own files; use as a context manager.

    A subclass opens its writer at the first record; what `_add` and `_end` raise is caught here.

    Args:
        out: run folder; need not exist yet.
    """

    name: str

    def __init__(self, out: Path) -> None:
        self.out = out
        self.failed = False

    @abstractmethod
    def _add(self, group: str, count: int, figures: Mapping[str, float]) -> None:
        """Writes finite figures of a `step` or an `epoch`, which is the `count`-th, from 1."""

    @abstractmethod
    def _end(self, code: int) -> None:
        """Flushes and closes what was opened, if anything was; `code` is 1 after an error."""

    def step(self, record: StepRecord) -> None:
        """To be called after every step, or some."""
        count = record.epoch * record.n_steps + record.step
        figures = {name: getattr(record, name) for name in _STEP_FIGURES}
        self._careful(lambda: self._add("step", count, _finite(figures)))

    def epoch(self, record: EpochRecord) -> None:
        """To be called after every epoch."""
        figures = asdict(record)
        count = figures.pop("epoch") + 1
        del figures["stage"]
        self._careful(lambda: self._add("epoch", count, _finite(figures)))

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._careful(lambda: self._end(0 if kind is None else 1))

    def _careful(self, work: Callable[[], None]) -> None:
        if self.failed:
            return
        try:
            work()
        except Exception as error:
            self.failed = True
            _log.warning(
                "`log=['%s']` failed and is given up, training goes on: %s: %s",
                self.name,
                type(error).__name__,
                one_line(error),
            )


class TensorBoardLog(Log):
    """Event files in RUN/tensorboard: `steps` over training steps, `epochs` over epochs.

    Two folders, since a run that goes on takes back what a killed one wrote beyond the checkpoint,
    and TensorBoard does that by one count for all that a folder holds.
    """

    name = "tensorboard"

    def __init__(self, out: Path) -> None:
        _need(self.name, "tensorboard")
        super().__init__(out)
        self.writers: dict[str, Any] = {}

    def _add(self, group: str, count: int, figures: Mapping[str, float]) -> None:
        if group not in self.writers:
            self.writers[group] = self._writer(group, count)
        for name, value in figures.items():
            self.writers[group].add_scalar(f"{group}/{name}", value, count)

    def _writer(self, group: str, count: int) -> Any:
        from torch.utils.tensorboard import SummaryWriter

        folder = self.out / "tensorboard" / f"{group}s"
        writer: Any = SummaryWriter(str(folder), purge_step=count, flush_secs=10)
        return writer

    def _end(self, code: int) -> None:  # noqa: ARG002  # TensorBoard knows no failed runs
        for writer in self.writers.values():
            writer.close()


class WandbLog(Log):
    """A run of Weights & Biases; RUN/wandb-id keeps its identity, so that a resumed one goes on."""

    name = "wandb"

    def __init__(self, out: Path) -> None:
        _need(self.name, "wandb")
        import wandb

        online = wandb.setup().settings.mode == "online"
        if online and not wandb.login(prompt=False, verify=False):
            raise UsageError("`log=['wandb']` has no account: `wandb login`, or WANDB_MODE=offline")
        super().__init__(out)
        self.run: Any = None

    def _add(self, group: str, count: int, figures: Mapping[str, float]) -> None:
        if self.run is None:
            self.run = self._begin()
        named = {f"{group}/{name}": value for name, value in figures.items()}
        self.run.log({group: count, **named})

    def _begin(self) -> Any:
        import wandb

        run = wandb.init(
            id=self._identity(),
            resume="allow",
            dir=str(self.out),
            name=self.out.resolve().name,
            config=_args(self.out),
            settings=wandb.Settings(console="off", quiet=True),
        )
        for group in ("step", "epoch"):
            run.define_metric(f"{group}/*", step_metric=group)
        return run

    def _identity(self) -> str:
        file = self.out / "wandb-id"
        if not file.is_file():
            write_file(file, secrets.token_hex(4).encode())
        return file.read_text(encoding="utf-8").strip()

    def _end(self, code: int) -> None:
        if self.run is not None:
            self.run.finish(exit_code=code)


LOGS: dict[str, type[Log]] = {log.name: log for log in (TensorBoardLog, WandbLog)}
"""By the name that `Recipe.log` takes."""


def open_log(kind: str, out: str | Path) -> Log:
    """A log of the run in `out`; nothing is written before its first record.

    Args:
        kind: of `LOGS`.
        out: run folder; need not exist yet.

    Raises:
        UsageError: no such kind, or its package is not installed.
    """
    if kind not in LOGS:
        raise UsageError(f"`log=`: expected {' or '.join(LOGS)}, got `{kind}`")
    return LOGS[kind](Path(out))


def told_in_turn(*listeners: Callable[[_Record], None]) -> Callable[[_Record], None]:
    """One listener that calls each of several."""

    def tell(record: _Record) -> None:
        for listener in listeners:
            listener(record)

    return tell


def _need(kind: str, package: str) -> None:
    spec = find_spec(package)
    if spec is None or spec.origin is None:  # a folder of that name, as both leave them
        raise UsageError(
            f"`log={[kind]}` needs {package}, which is not installed: pip install 'irbin[{kind}]'"
        )


def _finite(figures: Mapping[str, Any]) -> dict[str, float]:
    """Without what was not measured."""
    return {name: float(value) for name, value in figures.items() if math.isfinite(value)}


def _args(out: Path) -> Any:
    """What the run was asked for, as args.yaml tells it."""
    file = out / "args.yaml"
    return yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else {}
