"""The files of a run that people read, and how its folders are replaced.

RUN/args.yaml says how to repeat the run, RUN/summary.csv has a row an epoch under timm's column
names, RUN/best and RUN/last are network folders; `last` also holds the training state, see
`resume.py`.
"""

from __future__ import annotations

import csv
import io
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import yaml

from irbin import __version__
from irbin.errors import TrainingError, UsageError
from irbin.files import beside, put_in_place, remove, write_file
from irbin.records import (
    DataOptions,
    EpochRecord,
    JsonValue,
    SourceRecord,
    from_json,
    to_json,
)  # fmt: skip
from irbin.training.recipe import Recipe

_FREE_KNOBS = frozenset(["log_interval"])
"""What may differ when a run goes on."""

_FIXED_DATA = ("dataset", "train_split", "val_split", "class_map", "batch_size")
"""What may not; the folder may move and the number of workers change."""


def begin_run(
    out: Path, recipe: Recipe, data: DataOptions, source: SourceRecord, device: str,
    inputs: Mapping[str, JsonValue] | None,
) -> None:  # fmt: skip
    """Makes the run folder and writes args.yaml.

    Raises:
        UsageError: the folder exists and is not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(
            f"expected a new folder for the run, got {out}, which exists: "
            "`--resume` goes on with it, `-o` names another"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the run folder {out}: {error.strerror}") from error
    args = {
        "command": dict(inputs or {}),
        "recipe": to_json(recipe),
        "data": to_json(data),
        "source": to_json(source),
        "device": device,
        "threads": torch.get_num_threads(),
        "versions": _versions(),
    }
    text = yaml.safe_dump(args, sort_keys=False, allow_unicode=True)
    write_file(out / "args.yaml", text.encode())


def _versions() -> dict[str, str]:
    return {
        "irbin": __version__, "torch": str(torch.__version__), "timm": timm.__version__,
        "numpy": np.__version__, "python": platform.python_version(),
    }  # fmt: skip


def read_args(out: Path) -> tuple[Recipe, DataOptions]:
    """The recipe and the data of an earlier run.

    Raises:
        TrainingError: no run folder, or its args.yaml cannot be read.
    """
    file = out / "args.yaml"
    if not file.is_file():
        raise TrainingError(
            f"expected a run folder to go on with, got {out}, which has no args.yaml: leave out "
            "`--resume` to begin there"
        )
    try:
        args = yaml.safe_load(file.read_text(encoding="utf-8"))
        return from_json(Recipe, args["recipe"], str(file)), from_json(
            DataOptions, args["data"], str(file)
        )
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        first = " ".join(str(error).split())
        raise TrainingError(f"expected the options of a run in {file}, got: {first}") from error


def check_same_run(out: Path, recipe: Recipe, data: DataOptions) -> None:
    """Compares what a run began with and what it is to go on with.

    Raises:
        TrainingError: they differ in something that would make it another run.
    """
    old_recipe, old_data = read_args(out)
    pairs: list[tuple[str, Any, Any]] = [
        (field.name, getattr(old_recipe, field.name), getattr(recipe, field.name))
        for field in fields(Recipe)
        if field.name not in _FREE_KNOBS
    ]
    pairs += [(name, getattr(old_data, name), getattr(data, name)) for name in _FIXED_DATA]
    changed = [f"`{name}` {old!r}, now {new!r}" for name, old, new in pairs if old != new]
    if changed:
        raise TrainingError(
            f"expected the options {out} began with, but they differ: "
            f"was {'; was '.join(changed[:3])}"
        )


def write_summary(out: Path, records: Sequence[EpochRecord]) -> None:
    """Writes summary.csv whole: a header, and a row for every epoch."""
    text = io.StringIO()
    names = [field.name for field in fields(EpochRecord)]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow(asdict(record))
    write_file(out / "summary.csv", text.getvalue().encode())


def replace_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """Puts a folder that `fill` writes in the place of `path`, see `irbin.files`.

    Args:
        path: final place.
        fill: called with a path that does not exist; makes the folder there.
    """
    partial = beside(path)
    remove(partial)
    with removed_on_error(partial):
        fill(partial)
    put_in_place(partial, path)


@contextmanager
def removed_on_error(path: Path) -> Iterator[None]:
    """Within, an exception removes the folder `path` on its way out."""
    try:
        yield
    except BaseException:
        remove(path)
        raise
