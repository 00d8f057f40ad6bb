"""A run folder read back: what was asked for, how it went, what was wrong. Torch-free.

A run that is still going on can be read: its files are replaced whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from irbin.errors import IrbinError, SourceError
from irbin.files import current, read_json
from irbin.messages import in_a_row, one_line, system_says
from irbin.recipes.recipe import Recipe
from irbin.recipes.request import recipe_of
from irbin.records.json import JsonValue, from_json, to_json
from irbin.records.plan import PlanOptions
from irbin.records.training import ClassAccuracy, EpochRecord, LayerDiagnostics
from irbin.runs.tables import (
    CLASSES,
    DIAGNOSTICS,
    has_table,
    read_classes,
    read_diagnostics,
    read_summary,
)
from irbin.training.stages import TrainingStage, stages_of
from irbin.watching.symptoms import News, symptoms

MAX_ARGS_BYTES = 1 << 20
"""Of args.yaml, which has some two hundred short lines."""


@dataclass(frozen=True)
class RecordedRun:
    """A run as its folder tells it. Made by `read_run`, read by reports."""

    name: str
    """What tells it apart."""
    recipe: Recipe
    """With what `auto` became."""
    args: Mapping[str, JsonValue]
    """All of args.yaml: `command`, `data`, `source`, `hardware`, `versions` …"""
    plan: PlanOptions | None
    """How the network was converted; None of a float one."""
    epochs: tuple[EpochRecord, ...]
    """At least one."""
    layers: tuple[LayerDiagnostics, ...]
    """An entry an epoch and binary layer; none of a float network."""
    classes: tuple[ClassAccuracy, ...]
    """None of a run of an earlier irbin."""

    @property
    def stages(self) -> tuple[TrainingStage, ...]:
        """What is binary when."""
        return stages_of(self.recipe)

    @property
    def n_epochs(self) -> int:
        """That it is to have."""
        return self.recipe.epochs + self.recipe.cooldown_epochs

    @property
    def best(self) -> EpochRecord | None:
        """The first epoch of the highest accuracy among those that count; None without any."""
        counted = [one for one in self.epochs if one.counts and one.eval_top1 == one.eval_top1]
        return max(counted, key=lambda one: one.eval_top1, default=None)

    def symptoms(self) -> list[tuple[int, str]]:
        """(epoch, sentence) of what was wrong, each when it began, as the run told it."""
        told = []
        n_classes = int(self._source("num_classes") or 0)
        for stage in self.stages:
            news = News()
            epochs = self.epochs[stage.begin : stage.begin + stage.n_epochs]
            for n in range(1, len(epochs) + 1):
                epoch = epochs[n - 1].epoch
                layers = [row for row in self.layers if row.epoch == epoch]
                present = symptoms(epochs[:n], layers, n_classes, stage.n_epochs, self.plan)
                told += [(epoch, one.sentence) for one in news.fresh(present)]
        return told

    def options(self) -> dict[str, str]:
        """Everything that could be said otherwise, by dotted name, as words."""
        parts = {name: self.args.get(name) for name in ("data", "source", "hardware", "versions")}
        command = self.args.get("command")
        parts["command"] = (
            {name: value for name, value in command.items() if name != "overrides"}
            if isinstance(command, dict)
            else None
        )
        flat = dict(_flat("recipe", to_json(self.recipe)))
        flat |= dict(_flat("plan", None if self.plan is None else to_json(self.plan)))
        for name, value in parts.items():
            flat |= dict(_flat(name, value))
        for name in ("device", "processes", "threads", "data_fingerprint", "git"):
            flat |= dict(_flat(name, self.args.get(name)))
        return flat

    def _source(self, name: str) -> JsonValue:
        source = self.args.get("source")
        return source.get(name) if isinstance(source, dict) else None


def read_run(run: Path, name: str) -> RecordedRun:
    """What a run folder says.

    Args:
        run: the folder.
        name: what it is to be called.

    Raises:
        SourceError: it is none, no epoch is done yet, or a file of it is damaged.
    """
    epochs = tuple(read_summary(run))
    args = _read_args(run / "args.yaml")
    try:
        recipe = recipe_of(args["recipe"])  # a run of an earlier version has fewer knobs
    except (IrbinError, KeyError, TypeError, ValueError) as error:
        raise SourceError(
            f"expected the options of a run in {run / 'args.yaml'}, got: {one_line(error)}"
        ) from error
    last = epochs[-1].epoch
    return RecordedRun(
        name,
        recipe,
        args,
        _plan_options(run),
        epochs,
        tuple(
            row
            for row in (read_diagnostics(run) if has_table(run, DIAGNOSTICS) else ())
            if row.epoch <= last
        ),
        tuple(read_classes(run)) if has_table(run, CLASSES) else (),
    )


def _read_args(file: Path) -> dict[str, JsonValue]:
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_ARGS_BYTES + 1)
        if len(content) > MAX_ARGS_BYTES:
            raise ValueError(f"more than {MAX_ARGS_BYTES:,} bytes")
        args = yaml.safe_load(content.decode("utf-8"))
    except OSError as error:
        raise SourceError(f"cannot read {file}: {system_says(error)}") from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise SourceError(f"expected the options of a run in {file}, got: {one_line(error)}") from (
            error
        )
    if not isinstance(args, dict):
        raise SourceError(f"expected the options of a run in {file}, got no mapping")
    return args


def _plan_options(run: Path) -> PlanOptions | None:
    """Of the network that is trained; None where it is float, or nothing of it is there."""
    folder = current(run / "last") or current(run / "best")
    try:
        config = read_json(folder / "config.json") if folder is not None else {}
        plan = config["irbin"]["plan"]
        return None if plan is None else from_json(PlanOptions, plan["options"], str(folder))
    except (OSError, ValueError, KeyError, TypeError, IrbinError):
        return None


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Leaves of nested mappings by dotted name, as words."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}", inner)
    elif isinstance(value, list | tuple):
        yield name, in_a_row(value) or "–"
    else:
        yield name, "–" if value is None or value == "" else str(value)
