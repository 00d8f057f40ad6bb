"""Where a run stands, saved so that it can go on bit for bit: JSON and safetensors, no pickle.

The schedule and EDE are functions of the global step, and everything random is seeded by (seed,
step) or (seed, epoch, index). So the state is the weights and their average, the optimizer's
tensors, the position in the epoch, what the diagnostics remember, and the running sums behind the
epoch's record: no state of a random generator has to be kept.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, load_model, save
from torch import Tensor

from irbin.errors import TrainingError
from irbin.files import current, remove, whole_folder
from irbin.interrupt import interrupt_after
from irbin.messages import first_line
from irbin.processes import Group
from irbin.records.json import JsonValue
from irbin.records.training import EpochRecord, RunRecord
from irbin.sources.folder import fill_folder, refuse_unbuildable
from irbin.training.run import Run

VERSION = 1

_log = logging.getLogger("irbin")


@dataclass
class Progress:
    """Where a run stands; the loop moves it. Counts are of the epoch under way."""

    epoch: int = 0
    """Epochs finished, evaluation included."""
    step: int = 0
    """Steps done in the epoch under way; all of them while only its evaluation is missing."""
    loss_sum: float = 0.0
    """Sum of the loss over images, nats."""
    n_right: float = 0.0
    """Images whose label was the top answer; NaN where labels were mixed."""
    n_seen: int = 0
    """Images trained on."""
    seconds: float = 0.0
    """Time spent on the epoch's steps."""
    waiting: float = 0.0
    """Of these, seconds spent waiting for images."""
    eval_seconds: float = 0.0
    """Time the last evaluation took."""
    best_epoch: int = -1
    """Epoch of the best accuracy; −1 before the first evaluation."""
    best_top1: float = 0.0
    """Per cent."""
    records: list[EpochRecord] = field(default_factory=list)
    """Finished epochs."""

    def finish_epoch(self, record: EpochRecord) -> bool:
        """Moves on to the next epoch; returns whether this was the best so far."""
        self.records.append(record)
        evaluated = record.counts and not math.isnan(record.eval_top1)
        better = evaluated and (self.best_epoch < 0 or record.eval_top1 > self.best_top1)
        if better:
            self.best_epoch, self.best_top1 = record.epoch, record.eval_top1
        self.epoch, self.step = self.epoch + 1, 0
        self.loss_sum, self.n_right, self.n_seen = 0.0, 0.0, 0
        self.seconds = self.waiting = 0.0
        return better


def save_last(run: Run, progress: Progress) -> None:
    """Writes RUN/last, whole or not at all: a network folder and the training state.

    What is looked up of the teacher goes before it, see `TaughtViews.save`.

    Raises:
        SourceError: the network cannot be built again from its record.
    """
    refuse_unbuildable(run.network, run.out / "last")
    if run.views is not None:
        run.views.save(run.out)
    tensors: dict[str, Tensor] = {}
    state = {
        "version": VERSION,
        "progress": dataclasses.asdict(progress),
        "n_images": run.train.n_images,
        "optimizer": encode(run.optimizer.state_dict(), "optimizer", tensors),
        "scaler": encode(run.scaler.state_dict(), "scaler", tensors),
    }
    if run.ema is not None:
        tensors |= _filed("ema", run.ema.module.state_dict())
    tensors |= _filed("diagnostics", run.diagnostics.state())

    with whole_folder(run.out / "last") as folder:
        fill_folder(run.network, folder)
        (folder / "training.safetensors").write_bytes(save(tensors, {"format": "pt"}))
        (folder / "training.json").write_bytes(json.dumps(state, indent=1).encode())


def keep_recent(out: Path, epoch: int, n_kept: int) -> None:
    """Keeps `last` as RUN/recent/epoch-N too, and removes all but the newest `n_kept` of them.

    Files are linked, so that they take their place on the disk once.

    Args:
        out: run folder.
        epoch: finished epochs, N.
        n_kept: 0 keeps none.
    """
    recent = out / "recent"
    if n_kept > 0:
        with whole_folder(recent / f"epoch-{epoch}") as folder:
            shutil.copytree(out / "last", folder, copy_function=_link, dirs_exist_ok=True)
    for folder in _recent(out)[n_kept:]:
        remove(folder)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copy2(source, target)


def _recent(out: Path) -> list[Path]:
    """Kept epochs, the newest first."""
    numbered = [
        (int(p.name[6:]), p) for p in (out / "recent").glob("epoch-*") if p.name[6:].isdigit()
    ]
    return [path for _, path in sorted(numbered, reverse=True)]


def load_last(run: Run) -> Progress:
    """Puts the run's network, optimizer and the like, in place, where RUN/last left them.

    Where `last` is damaged, the newest epoch that is kept beside it is taken, and a note says so.

    Returns:
        Where the run stands.

    Raises:
        TrainingError: a file is missing or damaged, or belongs to another network or data set.
    """
    if run.views is not None:
        run.views.load(run.out)
    folder = current(run.out / "last")
    if folder is None:
        raise TrainingError(
            f"expected {run.out / 'last'} to go on from, found nothing: remove {run.out} and begin "
            "again"
        )
    places = [folder, *_recent(run.out)]
    for place, other in zip(places, [*places[1:], None], strict=True):
        try:
            return _load(run, place)
        except _DamagedError as error:
            if other is None:
                raise
            _log.warning("%s; going on from %s", error, other)
    raise AssertionError("the last place raises or returns")


def finished_run(out: Path) -> RunRecord | None:
    """The record of a run that has nothing left to train, from its files; None of any other."""
    last = current(out / "last")
    try:
        result = json.loads((out / "run.json").read_text(encoding="utf-8"))
        state = json.loads(((last or out) / "training.json").read_text(encoding="utf-8"))
        progress = _progress(state["progress"])
        is_over = result["interrupted"] is False and result["epochs"] == progress.epoch
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not is_over:
        return None
    best = progress.best_epoch, progress.best_top1
    return RunRecord(str(out), tuple(progress.records), *best, interrupted=False)


def check_together(n_done: int, group: Group) -> None:
    """Whether all processes go on after as many steps: else exchanges of different ones would meet.

    Raises:
        TrainingError: they do not, as on a file system that shows a machine older files.
    """
    first, last = group.least([n_done, -n_done])
    if first != -last:
        raise TrainingError(
            "expected all processes to go on from the same state, got some after "
            f"{first:,} steps and some after {-last:,}: the run folder must look the same from "
            "every machine; wait until its files have arrived there, and try again"
        )


class _DamagedError(TrainingError):
    """A training state that cannot be read."""


def _load(run: Run, folder: Path) -> Progress:
    try:
        state = json.loads((folder / "training.json").read_text(encoding="utf-8"))
        with interrupt_after():
            tensors = load_file(folder / "training.safetensors")
        version, n_images = state["version"], state["n_images"]
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise _DamagedError(f"cannot go on from {folder}: {first_line(error)}") from error
    if version != VERSION:
        raise TrainingError(
            f"expected training state of version {VERSION} in {folder}, got {version}"
        )
    if n_images != run.train.n_images:
        raise TrainingError(
            f"expected the {n_images} training images that {run.out} began with, "
            f"got {run.train.n_images}"
        )
    try:
        with interrupt_after():
            load_model(run.module, folder / "model.safetensors", strict=True)
        run.optimizer.load_state_dict(decode(state["optimizer"], tensors))
        lay_out_as_parameters(run.optimizer)
        run.scaler.load_state_dict(decode(state["scaler"], tensors))
        if run.ema is not None:
            run.ema.module.load_state_dict(_under("ema", tensors))
        run.diagnostics.load_state(_under("diagnostics", tensors))
        return _progress(state["progress"])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise _DamagedError(f"cannot go on from {folder}: {first_line(error)}") from error


def lay_out_as_parameters(optimizer: torch.optim.Optimizer) -> None:
    """Gives each of the optimizer's tensors its parameter's memory format, in place.

    Files hold plain ones. A fused optimizer reads a parameter and its state as rows of numbers
    without looking at strides, so channels-last weights would be moved by others' averages.
    """
    # timm's Lookahead keeps what it wraps, and all state there; its own is empty
    optimizer = getattr(optimizer, "_base_optimizer", optimizer)
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                values[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _filed(path: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # safetensors refuses tensors that share memory, or are channels-last
    plain = torch.contiguous_format
    return {
        f"{path}.{name}": t.detach().cpu().clone(memory_format=plain) for name, t in tensors.items()
    }


def _under(path: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `_filed` was given."""
    n = len(path) + 1
    return {name[n:]: t for name, t in tensors.items() if name.startswith(f"{path}.")}


def _progress(values: dict[str, Any]) -> Progress:
    records = [EpochRecord(**record) for record in values.pop("records")]
    return Progress(**values, records=records)


def encode(value: Any, path: str, tensors: dict[str, Tensor]) -> JsonValue:
    """JSON for nested dicts, lists, tuples, scalars and None; tensors go into `tensors`, in place.

    Containers become one-key dicts that say what they were, so that `decode` gives back the same
    types and keys that are numbers stay numbers.

    Args:
        value: what to encode.
        path: name under which tensors inside `value` are filed.
        tensors: receives them.

    Raises:
        TrainingError: something else, which only an optimizer with exotic state holds.
    """
    if isinstance(value, Tensor):
        tensors[path] = value.detach().cpu().contiguous()
        return {"tensor": path}
    if isinstance(value, dict):
        items = [[key, encode(item, f"{path}.{key}", tensors)] for key, item in value.items()]
        return {"dict": items}
    if isinstance(value, (list, tuple)):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [encode(item, f"{path}.{i}", tensors) for i, item in enumerate(value)]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TrainingError(f"cannot save `{path}` of type {type(value).__name__}: use another `opt=`")


def decode(value: JsonValue, tensors: dict[str, Tensor]) -> Any:
    """What `encode` was given."""
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: decode(item, tensors) for key, item in content}
    items = [decode(item, tensors) for item in content]
    return items if kind == "list" else tuple(items)
