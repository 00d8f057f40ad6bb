"""What to type today to repeat a run: its conversion, where that was a step of its own, and it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from docs.maintain.zookeeper.begun import BegunRun, plan_of
from docs.maintain.zookeeper.portable import is_absolute, portable_folder
from irbin.recipes.file import read_recipe, recipe_names
from irbin.recipes.recipe import FIELD_NAMES, Recipe
from irbin.recipes.request import resolve_recipe
from irbin.records.json import JsonValue, changed_fields, to_json
from irbin.records.knob import knobs_of
from irbin.records.options import DEFAULT_BATCH_SIZE, DEFAULT_SEED, DataOptions

_RENAMED = {
    "paper-resnet20": "paper-resnet20-cifar10",
    "paper-vgg-small": "paper-vgg-small-cifar10",
}
"""Recipes that older runs knew under another name."""

_OF_THE_MACHINE = ("amp", "channels_last", "compile")
"""Knobs that a run decides by where it runs, unless it is told."""
_WITHOUT_EFFECT = ("log_interval", "checkpoint_hist", "recovery_interval")
"""Knobs that change no weight."""
_IMAGES = (
    "data_dir",
    "dataset",
    "train_split",
    "val_split",
    "class_map",
    "batch_size",
    "train_num_samples",
    "val_num_samples",
)
"""Fields of `DataOptions` that a command has to give."""
_NEGATIVE = {found.name: f"--{found.knob.off}" for found in knobs_of(Recipe) if found.knob.off}
"""Flags that are not `--no-` and the field's name."""


def name_today(run: BegunRun) -> str:
    """What the recipe that a run named is called by now; without one it is what stands for none."""
    name = run.command.get("recipe")
    if not name:
        return "float" if run.plan is None else "default"
    return _RENAMED.get(name, str(name))


def commands(run: BegunRun) -> list[list[str]]:
    """The words of each command, in order.

    Raises:
        SourceError: a value in its `args.yaml` that cannot be meant, or an earlier run is damaged.
    """
    source = run.args["source"]
    spec, name = run.called(source["spec"]), run.names[run.folder]
    opened = _source_flags(spec, source)
    recipe, knobs = _recipe_and_flags(run)
    begun, found = spec, []
    if run.plan is not None and not _is_converted_on_the_way(run, recipe):
        begun = f"{name}-converted"
        words = [spec, *opened, *flags(changed_fields(run.plan.options))]
        if not source.get("trained") and run.knobs.seed != DEFAULT_SEED:
            words += ["--seed", str(run.knobs.seed)]  # of its first weights
        found.append(["irbin", "convert", *words, "-o", begun])
        opened = []
    elif run.earlier is not None:
        begun, opened = run.called(run.command["source"]), []
    given = {} if recipe is None else {"recipe": recipe}
    if teacher := run.command["teacher"]:
        given["teacher"] = run.called(teacher)
    words = [*opened, *flags({**given, **_images(run, recipe)}), *knobs]
    found.append([*_program(run), "finetune", begun, *words, "-o", name])
    return found


def _program(run: BegunRun) -> list[str]:
    n_processes = int(run.args.get("processes", 1))
    if n_processes == 1:
        return ["irbin"]
    return ["torchrun", "--nproc-per-node", str(n_processes), "-m", "irbin"]


def _is_converted_on_the_way(run: BegunRun, recipe: str | None) -> bool:
    """Whether a binary run needs no conversion before: its recipe does it, or it began binary."""
    if run.command.get("convert") is not None and run.plan is not None:
        return read_recipe(recipe).plan_options == run.plan.options
    return run.earlier is not None and plan_of(run.earlier) is not None


def _recipe_and_flags(run: BegunRun) -> tuple[str | None, list[str]]:
    """The recipe that a command names today, and what to add so that its knobs are the run's.

    None names no recipe: there was none, it was a file, or it now sets what no flag takes back.
    """
    told = run.command.get("overrides") or {}
    name = name_today(run)
    if name in recipe_names() and run.command.get("recipe"):
        changed = _differences(run, name, told)
        if None not in changed.values():
            return name, flags(changed)
    changed = _differences(run, None, told)
    return None, flags({knob: value for knob, value in changed.items() if value is not None})


def _differences(
    run: BegunRun, recipe: str | None, told: Mapping[str, JsonValue]
) -> dict[str, JsonValue]:
    """The run's knobs that a recipe would not give it; not what is a machine's own affair."""
    ran, today = to_json(run.knobs), to_json(resolve_recipe(recipe, {}, run.plan is not None))
    own = {*_WITHOUT_EFFECT, *(name for name in _OF_THE_MACHINE if name not in told)}
    return {name: ran[name] for name in FIELD_NAMES if name not in own and ran[name] != today[name]}


def _images(run: BegunRun, recipe: str | None) -> dict[str, JsonValue]:
    """The options of the images that are not the defaults, nor what the recipe says."""
    data = run.args["data"]
    usual = to_json(read_recipe(recipe).batched(DataOptions()))
    given = {name: data.get(name, usual[name]) for name in _IMAGES}
    given["data_dir"] = portable_folder(given["data_dir"])
    given["batch_size"] = data.get("batch_size") or DEFAULT_BATCH_SIZE
    found = {name: value for name, value in given.items() if value != usual[name]}
    if data.get("cache") == "off":  # which draws other random numbers
        found["cache"] = "off"
    return found


def _source_flags(spec: str, source: Mapping[str, Any]) -> list[str]:
    """How a name was opened, where the name alone does not say it."""
    kind = spec.partition(":")[0]
    size = tuple((source.get("preprocessing") or {}).get("input_size", ()))
    num_classes = source.get("num_classes")
    is_usual = kind == "paper" and (num_classes, size) == (10, (3, 32, 32))
    if kind == "zoo" or is_usual or is_absolute(source["spec"]):  # which says it itself
        return []
    found = flags({"model_kwargs": source.get("model_kwargs") or {}})
    if kind != "module":  # whose arguments hold it
        found += flags({"num_classes": num_classes})
    if size:
        found += ["--input-size", *map(str, size)]
    has_weights = kind not in ("paper", "module")
    return [*found, "--no-pretrained"] if has_weights and not source.get("weights") else found


def flags(values: Mapping[str, JsonValue]) -> list[str]:
    """The words that set options, each flag named as its field: `{"lr": 0.1}` → `--lr 0.1`.

    Args:
        values: numbers, words and truth values; mappings and lists, whose flags are repeatable;
            `scale` and `ratio`, whose two numbers follow one flag.
    """
    found: list[str] = []
    for name, value in values.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            found.append(flag if value else _NEGATIVE.get(name, f"--no-{flag[2:]}"))
        elif isinstance(value, Mapping):
            found += [word for key, item in value.items() for word in (flag, f"{key}={item}")]
        elif name in ("scale", "ratio"):
            found += [flag, *map(str, value)]
        elif isinstance(value, list | tuple):
            found += [word for item in value for word in (flag, str(item))]
        else:
            found += [flag, str(value)]
    return found
