"""A run folder as it was begun, and the runs that it began from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from docs.maintain.zookeeper.portable import portable
from irbin.errors import SourceError, UsageError
from irbin.recipes.recipe import FIELD_NAMES, Recipe
from irbin.recipes.request import recipe_of
from irbin.records.json import from_json
from irbin.records.options import SourceOptions, SourceRecord
from irbin.records.plan import Plan
from irbin.runs.tables import run_names
from irbin.sources.by_name import open_network
from irbin.sources.folder import folder_kind


@dataclass(frozen=True)
class BegunRun:
    """What a run began with. Made by `runs_behind`, read by `commands` and `history`."""

    folder: Path
    args: dict[str, Any]
    """Of `args.yaml`."""
    plan: Plan | None
    """Of the network that it trained."""
    names: Mapping[Path, str]
    """What commands call this run and those that it began from, by folder."""

    @property
    def command(self) -> dict[str, Any]:
        """What the user asked for; `source` and `teacher` are always there."""
        return dict(self.args["command"])

    def called(self, typed: str) -> str:
        """What a command calls a network: a run by its name, anything else without its folders."""
        place = _origin(self.folder, typed)
        earlier = _run_of(place)
        if place is None or earlier is None or earlier not in self.names:
            return str(portable(typed))
        part = place.relative_to(earlier).as_posix()
        return self.names[earlier] + ("" if part in (".", "best") else f"/{part}")

    @property
    def earlier(self) -> Path | None:
        """The run that it was told to begin with, or a part of that; None if it began otherwise."""
        return _run_of(_origin(self.folder, self.command["source"]))

    @property
    def knobs(self) -> Recipe:
        """The knobs that it had; those that came later are off.

        Raises:
            SourceError: a value that cannot be meant.
        """
        knobs = {name: value for name, value in self.args["recipe"].items() if name in FIELD_NAMES}
        try:
            return recipe_of(knobs)
        except UsageError as error:
            raise SourceError(f"`{self.folder / 'args.yaml'}`: {error}") from error


def runs_behind(run: Path) -> tuple[BegunRun, ...]:
    """The run, after the runs that it began from: its float network's, its teacher's.

    Folders are looked for as they were typed, from every folder above the run and from here. Where
    a run began with `zoo:NAME` this ends: that entry has a record of its own.

    Raises:
        SourceError: a file of a run is missing or damaged.
    """
    order: dict[Path, dict[str, Any]] = {}
    _follow(run.resolve(), order, set())
    names = dict(zip(order, run_names(list(order)), strict=True))
    return tuple(BegunRun(folder, args, plan_of(folder), names) for folder, args in order.items())


def began_with(run: Path) -> SourceRecord:
    """The float network that a run trained or that was converted for it, as it was opened.

    Raises:
        SourceError: a file of the run is missing or damaged.
    """
    try:
        return from_json(SourceRecord, _read_args(run)["source"], f"`{run / 'args.yaml'}`: source")
    except UsageError as error:  # the file is wrong, not the command
        raise SourceError(str(error)) from error


def teacher_of_run(run: Path) -> str | None:
    """What the run was told to distill from, its folder made absolute; None if nothing."""
    teacher = _read_args(run)["command"].get("teacher")
    return None if teacher is None else str(_origin(run, teacher) or teacher)


def _follow(run: Path, order: dict[Path, dict[str, Any]], met: set[Path]) -> None:
    """Adds a run to `order`, in place, behind those that it began from."""
    met.add(run)
    args = _read_args(run)
    command = args["command"]
    for typed in (command["source"], args["source"]["spec"], command["teacher"]):
        earlier = _run_of(_origin(run, typed))
        if earlier is not None and earlier not in met:
            _follow(earlier, order, met)
    order[run] = args


def _read_args(run: Path) -> dict[str, Any]:
    """A run's `args.yaml`, with all that this file reads."""
    file = run / "args.yaml"
    try:
        args = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise SourceError(f"`{file}`: expected what a run began with, got: {reason}") from error
    tables = ("command", "recipe", "data", "source", "hardware", "versions")
    for key in (*tables, "started"):
        if not isinstance(args, dict) or key not in args:
            raise SourceError(f"`{file}`: expected `{key}`, which an older irbin did not write")
    for key in tables:
        if not isinstance(args[key], dict):
            raise SourceError(f"`{file}`: expected names and values under `{key}`")
    if not isinstance(args["source"].get("spec"), str):
        raise SourceError(f"`{file}`: expected the network's name under `source`, got none")
    return {**args, "command": {"source": None, "teacher": None, **args["command"]}}


def _origin(run: Path, typed: str | None) -> Path | None:
    """The folder that was typed where the run was started; None if it is none, or gone."""
    if not typed:
        return None
    places = (above / Path(typed).expanduser() for above in (*run.resolve().parents, Path.cwd()))
    return next((place.resolve() for place in places if place.is_dir()), None)


def _run_of(folder: Path | None) -> Path | None:
    """The run folder that this is, or of which it is a part: `best`, `recent/epoch-3`."""
    places = () if folder is None else (folder, *folder.parents[:2])
    return next((place for place in places if folder_kind(place) == "run"), None)


def plan_of(folder: Path) -> Plan | None:
    """Of the network in a run folder; None for a float one."""
    return open_network(str(folder), SourceOptions()).plan
