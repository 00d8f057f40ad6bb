"""The files of a run that people read, and how its folders are replaced.

RUN/args.yaml says how to repeat the run, RUN/summary.csv has a row an epoch under timm's column
names, RUN/best and RUN/last are network folders; `last` also holds the training state, see
`training.resume`.
"""

from __future__ import annotations

import csv
import io
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import yaml

from irbin.errors import TrainingError, UsageError
from irbin.files import write_file
from irbin.messages import one_line, system_says
from irbin.processes import Group
from irbin.recipes.recipe import Recipe
from irbin.recipes.request import recipe_of
from irbin.records.card import TrainedFacts
from irbin.records.json import JsonValue, from_json, to_json
from irbin.records.options import DataOptions, Preprocessing, SourceRecord
from irbin.records.training import ClassAccuracy, EpochRecord, RunRecord
from irbin.runs.provenance import git_revision, hardware
from irbin.runs.tables import CLASSES, SUMMARY
from irbin.version import __version__

FREE_KNOBS = frozenset(
    ["log_interval", "checkpoint_hist", "recovery_interval", "grad_accum_steps", "compile"]
)
"""What may differ when a run goes on; the batches of a step are looked at as a whole.

A compiled step differs by rounding alone, and a machine may have no compiler.
"""

_FIXED_DATA = (
    "dataset",
    "train_split",
    "val_split",
    "class_map",
    "train_num_samples",
    "val_num_samples",
)
"""What may not; the folder may move and the number of workers change."""


def begin_run(
    out: Path,
    recipe: Recipe,
    data: DataOptions,
    source: SourceRecord,
    group: Group,
    inputs: Mapping[str, JsonValue] | None,
    fingerprint: str,
    asked: Recipe | None = None,
) -> None:
    """Makes the run folder and writes args.yaml: all that is needed to repeat the run.

    Args:
        out: the folder.
        recipe: without `auto`; what really happens.
        data: the same.
        source: what is trained.
        group: the processes.
        inputs: what the user asked for.
        fingerprint: of the images, see `data.fingerprint`.
        asked: the recipe before anything was decided; None says that it is `recipe`.

    Raises:
        UsageError: the folder exists and is not empty.
    """
    refuse_existing_run(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the run folder {out}: {system_says(error)}") from error
    args = {
        "command": dict(inputs or {}),
        "asked": {name: getattr(asked or recipe, name) for name in _DECIDED},
        "recipe": to_json(recipe),
        "data": to_json(data),
        "data_fingerprint": fingerprint,
        "source": to_json(source),
        "device": str(group.device),
        "processes": group.size,
        "threads": torch.get_num_threads(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": hardware(group.device),
        "git": git_revision(),
        "versions": _versions(),
    }
    text = yaml.safe_dump(args, sort_keys=False, allow_unicode=True)
    write_file(out / "args.yaml", text.encode())


def refuse_existing_run(out: Path) -> None:
    """Checks that a new run may be written to `out`.

    Raises:
        UsageError: it exists and is not an empty folder.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(
            f"expected a new folder for the run, got {out}, which exists: "
            "`resume=True` goes on with it, `out=` names another"
        )


def _versions() -> dict[str, str]:
    return {
        "irbin": __version__,
        "torch": str(torch.__version__),
        "timm": timm.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def _n_processes(out: Path) -> int:
    args = yaml.safe_load((out / "args.yaml").read_text(encoding="utf-8"))
    return int(args.get("processes", 1))


def read_args(out: Path) -> tuple[Recipe, DataOptions]:
    """The recipe and the data of an earlier run.

    Raises:
        TrainingError: no run folder, or its args.yaml cannot be read.
    """
    file = out / "args.yaml"
    if not file.is_file():
        raise TrainingError(
            f"expected a run folder to go on with, got {out}, which has no args.yaml: leave out "
            "`resume=True` to begin there"
        )
    try:
        args = yaml.safe_load(file.read_text(encoding="utf-8"))
        recipe = recipe_of(args["recipe"])  # a run of an earlier version has fewer knobs
        return recipe, from_json(DataOptions, args["data"], str(file))
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise TrainingError(
            f"expected the options of a run in {file}, got: {one_line(error)}"
        ) from error


def trained_facts(out: Path) -> TrainedFacts | None:
    """What a run's files say of it in a few words; None where they do not."""
    try:
        args = yaml.safe_load((out / "args.yaml").read_text(encoding="utf-8"))
        result = json.loads((out / "run.json").read_text(encoding="utf-8"))
        data = args["data"]
        return TrainedFacts(
            recipe=str(args["command"].get("recipe") or "default"),
            epochs=int(result["epochs"]),
            data=str(data["dataset"] or Path(data["data_dir"]).absolute().name),
            best_epoch=int(result["best_epoch"]) + 1,
            best_top1=float(result["best_top1"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError):
        return None


def check_same_images(out: Path, source: SourceRecord) -> None:
    """Checks that a run goes on with images fed as when it began.

    Raises:
        TrainingError: another normalization, size, filter or crop.
    """
    args = yaml.safe_load((out / "args.yaml").read_text(encoding="utf-8"))
    began = (args.get("source") or {}).get("preprocessing")
    if began is None:
        return
    seen = from_json(Preprocessing, began, str(out / "args.yaml"))
    old, new = vars(seen), vars(source.preprocessing)
    changed = [f"`{name}` {old[name]}, now {new[name]}" for name in old if old[name] != new[name]]
    if changed:
        raise TrainingError(
            f"expected images fed as {out} began with, but they differ: "
            f"was {'; was '.join(changed)}"
        )


def same_run(
    out: Path, recipe: Recipe, data: DataOptions, group: Group
) -> tuple[Recipe, DataOptions]:
    """Compares what a run began with and what it is to go on with.

    Returns:
        Both, with `auto` as the run decided it when it began.

    Raises:
        TrainingError: they differ in something that would make it another run.
    """
    old_recipe, old_data = read_args(out)
    decided = {
        field.name: getattr(old_recipe, field.name)
        for field in fields(Recipe)
        if field.name in _DECIDED and getattr(recipe, field.name) == "auto"
    }
    recipe = replace(recipe, **decided)
    if data.cache == "auto":
        data = replace(data, cache=old_data.cache)
    pairs: list[tuple[str, Any, Any]] = [
        (field.name, getattr(old_recipe, field.name), getattr(recipe, field.name))
        for field in fields(Recipe)
        if field.name not in FREE_KNOBS
    ]
    pairs += [(name, getattr(old_data, name), getattr(data, name)) for name in _FIXED_DATA]
    changed = [f"`{name}` {old!r}, now {new!r}" for name, old, new in pairs if old != new]
    old_step = old_data.n_batch * old_recipe.grad_accum_steps * _n_processes(out)
    step = data.n_batch * recipe.grad_accum_steps * group.size
    if old_step != step:
        changed.append(
            f"{old_step} images a step, now {step} (`batch_size` × `grad_accum_steps` × processes)"
        )
    if (old_data.cache == "off") != (data.cache == "off"):  # other random numbers
        changed.append(f"`cache` {old_data.cache!r}, now {data.cache!r}")
    if changed:
        raise TrainingError(
            f"expected the options {out} began with, but they differ: "
            f"was {'; was '.join(changed[:3])}"
        )
    return recipe, data


_DECIDED = ("amp", "channels_last", "compile")
"""Knobs that may be `auto`."""


def write_result(out: Path, record: RunRecord) -> None:
    """Writes run.json: how far the run is, its best epoch, and the hours it took."""
    counted = [epoch for epoch in record.epochs if epoch.counts]
    value = {
        "epochs": len(record.epochs),
        "best_epoch": record.best_epoch,
        "best_top1": record.best_top1,
        "last_top1": counted[-1].eval_top1 if counted else None,
        "seconds": sum(epoch.seconds for epoch in record.epochs),
        "interrupted": record.interrupted,
    }
    write_file(out / "run.json", json.dumps(value, indent=1).encode())


def write_summary(out: Path, records: Sequence[EpochRecord]) -> None:
    """Writes summary.csv whole: a header, and a row for every epoch."""
    _write_table(out / SUMMARY, EpochRecord, records)


def write_classes(out: Path, records: Sequence[ClassAccuracy]) -> None:
    """Writes classes.csv whole: a header, and a row for every class."""
    _write_table(out / CLASSES, ClassAccuracy, records)


def _write_table(file: Path, kind: type[Any], records: Sequence[Any]) -> None:
    text = io.StringIO()
    names = [field.name for field in fields(kind)]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow(asdict(record))
    write_file(file, text.getvalue().encode(errors="replace"))
