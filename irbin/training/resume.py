"""Where a run stands, saved so that it can go on bit for bit: JSON and safetensors, no pickle.

The schedule and EDE are functions of the global step, and everything random is seeded by (seed,
step) or (seed, epoch, index). So the state is the weights, the optimizer's tensors, the position in
the epoch and the running sums behind the epoch's record: no state of a random generator has to be
kept.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, load_model, save
from torch import Tensor

from irbin.errors import TrainingError
from irbin.files import current, write_file
from irbin.network.folder import save_folder
from irbin.network.network import Network
from irbin.records import EpochRecord, JsonValue
from irbin.training.run_folder import replace_folder

VERSION = 1


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
        better = not math.isnan(record.eval_top1) and (
            self.best_epoch < 0 or record.eval_top1 > self.best_top1
        )
        if better:
            self.best_epoch, self.best_top1 = record.epoch, record.eval_top1
        self.epoch, self.step = self.epoch + 1, 0
        self.loss_sum, self.n_right, self.n_seen, self.seconds = 0.0, 0.0, 0, 0.0
        return better


def save_last(
    out: Path, network: Network, optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler, progress: Progress, n_images: int,
) -> None:  # fmt: skip
    """Writes `out`/last, whole or not at all: a network folder and the training state."""
    tensors: dict[str, Tensor] = {}
    state = {
        "version": VERSION,
        "progress": dataclasses.asdict(progress),
        "n_images": n_images,
        "optimizer": encode(optimizer.state_dict(), "optimizer", tensors),
        "scaler": encode(scaler.state_dict(), "scaler", tensors),
    }

    def fill(folder: Path) -> None:
        save_folder(network, folder)
        write_file(folder / "training.safetensors", save(tensors, {"format": "pt"}))
        write_file(folder / "training.json", json.dumps(state, indent=1).encode())

    replace_folder(out / "last", fill)


def load_last(
    out: Path, network: Network, optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler, n_images: int,
) -> Progress:  # fmt: skip
    """Puts network, optimizer and scaler, in place, where `out`/last left them.

    Returns:
        Where the run stands.

    Raises:
        TrainingError: a file is missing or damaged, or belongs to another network or data set.
    """
    folder = current(out / "last")
    if folder is None:
        raise TrainingError(
            f"expected {out / 'last'} to go on from, found nothing: remove {out} and begin again"
        )
    try:
        state = json.loads((folder / "training.json").read_text(encoding="utf-8"))
        tensors = load_file(folder / "training.safetensors")
        if state["version"] != VERSION:
            raise TrainingError(
                f"expected training state of version {VERSION} in {folder}, got {state['version']}"
            )
        if state["n_images"] != n_images:
            raise TrainingError(
                f"expected the {state['n_images']} training images that {out} began with, "
                f"got {n_images}"
            )
        load_model(network.module, folder / "model.safetensors", strict=True)
        optimizer.load_state_dict(decode(state["optimizer"], tensors))
        scaler.load_state_dict(decode(state["scaler"], tensors))
        return _progress(state["progress"])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TrainingError(f"cannot go on from {folder}: {first}") from error


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
    raise TrainingError(f"cannot save `{path}` of type {type(value).__name__}: use another `--opt`")


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
