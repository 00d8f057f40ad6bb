"""Mutants of checkpoint files and recipes."""

from __future__ import annotations

import argparse
import io
import random
import zipfile
from pathlib import Path
from typing import Any

import torch
import yaml

from irbin.checkpoints.checkpoint import read_checkpoint
from irbin.errors import IrbinError
from irbin.recipes.file import read_recipe
from irbin.recipes.request import resolve_recipe

from . import values
from .folders import _draw, folder
from .pool import Outcome

CONTENT: dict[str, Any] = {
    "state_dict": {"conv.weight": "t", "conv.bias": "t", "bn.num_batches_tracked": "i"},
    "state_dict_ema": {"module.conv.weight": "t"},
    "arch": "resnet18",
    "epoch": 3,
    "metric": 0.5,
    "version": 2,
    "args": {"num_classes": 10, "mean": [0.5, 0.5, 0.5], "model_kwargs": {"a": 1}, "img_size": 32},
    "optimizer": {"state": {"0": {"exp_avg": "t"}}},
}


def _ended(error: IrbinError, path: Path) -> Outcome:
    text = str(error)
    if "\n" in text:
        return "bad", f"more than a line: {text[:200]!r}"
    return (
        ("refused", "") if path.name in text else ("bad", f"does not name the file: {text[:200]}")
    )


def _object(value: Any, draw: random.Random) -> Any:
    """Tensors, good and odd ones, and other objects in place of texts that stand for them."""
    if isinstance(value, dict):
        found = {key: _object(part, draw) for key, part in value.items()}
        return argparse.Namespace(**found) if "img_size" in found and draw.random() < 0.5 else found
    if isinstance(value, list):
        return [_object(part, draw) for part in value]
    if value == "i":
        return torch.tensor(3)
    if value != "t":
        return value
    kind = draw.randrange(16)
    if kind == 0:
        return torch.zeros(1).expand(draw.choice((2, 2**20, 2**40)))
    if kind == 1:
        return torch.empty(3, device="meta")
    if kind == 2:
        return torch.sparse_coo_tensor(torch.tensor([[0], [0]]), torch.ones(1), (2**31, 2**31))
    if kind == 3:
        return torch.tensor([float("nan"), 1.0])
    if kind == 4:
        return torch.randn(4).to(draw.choice((torch.float16, torch.bfloat16, torch.float8_e5m2)))
    if kind == 5:
        return torch.quantize_per_tensor(torch.randn(3), 0.1, 0, torch.qint8)
    if kind == 6:
        return torch.randn(3, dtype=torch.complex64)
    if kind == 7:
        return torch.nn.Parameter(torch.randn(2, 2))
    if kind == 8:
        return torch.empty(0, 3)
    return torch.randn(2, 3)


def checkpoints(seed: int, number: int) -> Outcome:
    """A mutant of a training checkpoint: of what it holds, of its archive, of its bytes."""
    draw = _draw(seed, number)
    content = values.mutated(CONTENT, draw, draw.choice((0, 0, 1, 2)))
    file = io.BytesIO()
    torch.save(_object(content, draw), file, _use_new_zipfile_serialization=draw.random() < 0.7)
    data = file.getvalue()
    change = draw.randrange(6)
    if change == 0:
        data = data[: draw.randrange(len(data) + 1)]
    elif change in (1, 2):
        flipped = bytearray(data)
        for _ in range(draw.choice((1, 1, 4, 16))):
            flipped[draw.randrange(len(flipped))] = draw.randrange(256)
        data = bytes(flipped)
    elif change == 3 and data[:2] == b"PK":
        data = _repacked(data, draw)
    path = folder().path / draw.choice(("model.pth", "model.safetensors"))
    path.write_bytes(data)
    try:
        read_checkpoint(path, use_ema=draw.random() < 0.3)
    except IrbinError as error:
        return _ended(error, path)
    return "equal", ""


def _repacked(data: bytes, draw: random.Random) -> bytes:
    """The archive again with its pickle changed, or an entry compressed, doubled or left out."""
    made = io.BytesIO()
    how = draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(made, "w", how) as new:
        for name in old.namelist():
            body = bytearray(old.read(name))
            if name.endswith(".pkl") and body:
                for _ in range(draw.choice((0, 1, 2, 8))):
                    body[draw.randrange(len(body))] = draw.randrange(256)
            if draw.random() > 0.05:
                new.writestr(name, bytes(body))
    return made.getvalue()


RECIPE: dict[str, Any] = {
    "about": "a recipe",
    "source": "resnet18",
    "pretrained": True,
    "batch_size": 64,
    "convert": {"bits": "1w1a", "keep": ["layer4.*"]},
    "epochs": 3,
    "lr": 0.01,
    "momentum": 0.9,
    "opt": "adam",
    "opt_kwargs": {"betas": [0.9, 0.99]},
    "sched": "cosine",
    "warmup_epochs": 0,
    "scale": [0.1, 1.0],
    "amp": False,
    "aa": None,
    "decay_milestones": [1, 2],
    "recu": True,
    "channels_last": "auto",
    "t_min": 0.1,
    "t_max": 10.0,
}
_PIECES = (
    "[" * 3000,
    "9" * 5000,
    "&a [*a]",
    "? ",
    "!!python/object:os.system x",
    "1e999",
    "\t",
    "~: 1",
    "\x00",
    "é: 1\n",
    "- x",
    "{",
    "<<: 1",
)


def recipes(seed: int, number: int) -> Outcome:
    """A mutant of a recipe: of its values and of its text."""
    draw = _draw(seed, number)
    text = yaml.safe_dump(
        values.mutated(RECIPE, draw, draw.choice((1, 1, 2, 4))), allow_unicode=True
    )
    if draw.random() < 0.3:
        at = draw.randrange(len(text) + 1)
        text = text[:at] + draw.choice(_PIECES) + text[at + draw.choice((0, 1)) :]
    path = folder().path / "mine.yaml"
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        read_recipe(str(path))
    except IrbinError as error:
        return _ended(error, path)
    try:
        resolve_recipe(str(path), {}, converted=True)
    except IrbinError as error:  # names the knob; `irbin recipes show` adds the file
        return ("bad", "more than a line") if "\n" in str(error) else ("refused", "")
    return "equal", ""
