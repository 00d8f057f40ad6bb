"""Run folders → how each came about, what to type to repeat it, and no machine's paths."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import yaml

from irbin.errors import SourceError, UsageError
from irbin.network.folder import folder_kind
from irbin.network.open import open_network
from irbin.records import (
    Curve,
    DataOptions,
    EpochRecord,
    JsonValue,
    PlanOptions,
    SourceOptions,
    ZooRun,
    changed_fields,
)
from irbin.runs import read_summary
from irbin.training.recipe_file import read_recipe


def history(run: Path) -> tuple[ZooRun, ...]:
    """The run, after the runs that it began from: its float network's, its teacher's.

    Folders are looked for as they were typed, from every folder above the run and from here.

    Raises:
        SourceError: a file of a run is missing or damaged.
    """
    found: dict[Path, ZooRun] = {}
    _follow(run.absolute(), found)
    return tuple(found.values())


def teacher_of_run(run: Path) -> str | None:
    """What the run was told to distill from, its folder made absolute; None if nothing."""
    teacher = _read_args(run)["command"].get("teacher")
    return None if teacher is None else str(_origin(run, teacher) or teacher)


def _follow(run: Path, found: dict[Path, ZooRun]) -> None:
    """Adds a run to `found`, in place, behind those that it began from."""
    args = _read_args(run)
    began_from = _origin(run, args["command"].get("source"))
    teacher = _origin(run, args["command"].get("teacher"))
    spec = Path(args["source"]["spec"])
    for folder in (began_from, spec if spec.is_absolute() else None, teacher):
        earlier = _run_of(folder)
        if earlier is not None and earlier not in (run, *found):
            _follow(earlier, found)
    found[run] = _zoo_run(run, args, began_from)


def _read_args(run: Path) -> dict[str, Any]:
    file = run / "args.yaml"
    try:
        args = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise SourceError(f"`{file}`: expected what a run began with, got: {error}") from error
    for key in ("command", "recipe", "data", "source", "started", "hardware", "versions"):
        if not isinstance(args, dict) or key not in args:
            raise SourceError(f"`{file}`: expected `{key}`, which an older irbin did not write")
    return dict(args)


def _origin(run: Path, typed: str | None) -> Path | None:
    """The folder that was typed where the run was started; None if it is none, or gone."""
    if not typed:
        return None
    places = (above / Path(typed).expanduser() for above in (*run.absolute().parents, Path.cwd()))
    return next((place.resolve() for place in places if place.is_dir()), None)


def _run_of(folder: Path | None) -> Path | None:
    """The run folder that this is, or whose `best` or `last`."""
    places = () if folder is None else (folder, folder.parent)
    return next((place for place in places if folder_kind(place) == "run"), None)


def _zoo_run(run: Path, args: Mapping[str, Any], began_from: Path | None) -> ZooRun:
    epochs = read_summary(run)
    knobs, data = args["recipe"], dict(args["data"])
    machine = {key: args[key] for key in ("device", "processes", "threads") if key in args}
    if data["data_dir"]:
        data["data_dir"] = Path(data["data_dir"]).name
    return ZooRun(
        commands=tuple(shlex.join(words) for words in _commands(run, args, began_from)),
        recipe=portable(args["command"].get("recipe")) or "default",
        knobs=portable(knobs),
        seed=int(knobs["seed"]),
        epochs=len(epochs),
        seconds=round(sum(epoch.seconds for epoch in epochs), 1),
        started=str(args["started"]),
        machine={**args["hardware"], **machine},
        versions=args["versions"],
        git=args.get("git"),
        data=portable({**data, "fingerprint": args.get("data_fingerprint")}),
        curve=_curve([epoch for epoch in epochs if math.isfinite(epoch.eval_top1)]),
    )


def _curve(epochs: list[EpochRecord]) -> Curve:
    return Curve(
        epoch=tuple(epoch.epoch + 1 for epoch in epochs),
        train_loss=tuple(round(epoch.train_loss, 4) for epoch in epochs),
        eval_loss=tuple(round(epoch.eval_loss, 4) for epoch in epochs),
        top1=tuple(round(epoch.eval_top1, 2) for epoch in epochs),
    )


def _commands(run: Path, args: Mapping[str, Any], began_from: Path | None) -> list[list[str]]:
    """The words of the conversion, where it was a step of its own, and of the training."""
    command, data, spec = args["command"], args["data"], portable(args["source"]["spec"])
    begun = portable(command.get("source")) or spec
    found = []
    options = _converted_before(run, command.get("recipe"), began_from)
    if options is not None:
        begun = begun if begun != spec else "converted"
        flags = _flags(changed_fields(options))
        found.append(["irbin", "convert", spec, *flags, "-o", begun])
    chosen = {key: command.get(key) for key in ("recipe", "teacher")}
    words = {key: data[key] for key in ("data_dir", "dataset")} | chosen
    if data["batch_size"] != DataOptions.batch_size:
        words["batch_size"] = data["batch_size"]
    given = {key: value for key, value in words.items() if value}
    flags = _flags(portable({**given, **dict(command.get("overrides") or {})}))
    found.append(["irbin", "finetune", begun, *flags, "-o", run.name])
    return found


def _converted_before(run: Path, recipe: str | None, began_from: Path | None) -> PlanOptions | None:
    """How the run's network was converted before it began; None if its recipe did it, or nobody."""
    plan = open_network(str(run), SourceOptions()).plan
    if plan is None or _run_of(began_from) is not None:
        return None
    try:
        by_recipe = read_recipe(recipe).convert is not None
    except UsageError:  # a file that is gone
        by_recipe = False
    was_converted = began_from is not None and folder_kind(began_from) == "network"
    return plan.options if was_converted or not by_recipe else None


def _flags(values: Mapping[str, JsonValue]) -> list[str]:
    """The words that set options, each flag named as its field."""
    found: list[str] = []
    for name, value in values.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            found.append(flag if value else f"--no-{flag[2:]}")
        elif isinstance(value, Mapping):
            found += [word for key, item in value.items() for word in (flag, f"{key}={item}")]
        elif isinstance(value, list | tuple):
            found += [word for item in value for word in (flag, str(item))]
        else:
            found += [flag, str(value)]
    return found


def portable(value: JsonValue) -> JsonValue:
    """JSON values whose strings name no folder of a machine: of an absolute path the end is left.

    That is its last name, and for a run's `best` or `last` the run's too.
    """
    if isinstance(value, Mapping):
        return {key: portable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [portable(item) for item in value]
    if not isinstance(value, str):
        return value
    if _is_absolute(value):
        parts = PureWindowsPath(value).parts  # which takes both kinds of slash
        return "/".join(parts[-2:] if parts[-1] in ("best", "last") else parts[-1:])
    kind, colon, rest = value.partition(":")
    return f"{kind}:{portable(rest)}" if colon and _is_absolute(rest) else value


def _is_absolute(text: str) -> bool:
    if text.startswith("//"):  # what follows `https:`
        return False
    here = PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute()
    return here or text.startswith("~")
