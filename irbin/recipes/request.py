"""What a run is asked to do, resolved: defaults, then a recipe, then what overrides it; torch-free.

A recipe is made in three layers: `Recipe` has every knob's default, a named recipe or a file of
the user's sets some of them, flags override.
"""

from __future__ import annotations

import logging
from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from irbin.errors import UsageError
from irbin.messages import nearest
from irbin.recipes.file import DEFAULT, HEAD, RecipeFile, read_recipe
from irbin.recipes.recipe import DEFAULTS, FIELD_NAMES, Recipe
from irbin.records.given import check_is
from irbin.records.json import JsonValue
from irbin.records.options import DataOptions, SourceOptions, check_given

_log = logging.getLogger("irbin")


@cache
def _adapter() -> TypeAdapter[Recipe]:
    return TypeAdapter(Recipe)


def recipe_of(
    knobs: Mapping[str, JsonValue],
    file: RecipeFile | None = None,
    overrides: Container[str] = (),
) -> Recipe:
    """The record of values for some knobs; the others have their defaults.

    Args:
        knobs: by name.
        file: where they stand, so that an error names it.
        overrides: those that do not stand there.

    Raises:
        UsageError: a value that cannot be meant.
    """
    try:
        return _adapter().validate_python(dict(knobs))
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "value_error":  # from `Together`, which names the knob itself
            raise UsageError(str(first["ctx"]["error"])) from error
        name = str(first["loc"][0]) if first["loc"] else "recipe"
        told = f"`{name}`: {first['msg']}, got {knobs.get(name)!r}"
        if file is not None and name in file.knobs and name not in overrides:
            told = f"`recipe=`: {file.name} sets {told}"
        raise UsageError(told) from error


@dataclass(frozen=True)
class Request:
    """What a command was asked to do, resolved before anything opens. Made by `asked`."""

    file: RecipeFile
    """What the recipe says; an empty one where none was named."""
    overrides: dict[str, JsonValue]
    """Knobs that win over it."""
    source: Any
    """What to open: what was named, else the recipe's own network."""
    source_options: SourceOptions
    """How to open it; its seed is the one of the run."""
    data: DataOptions | None
    """Images, with the recipe's batch size where nothing else was said; None where none are."""

    def recipe(self, *, converted: bool) -> Recipe:
        """Every knob, now that it is known whether the network is binary; see `resolve_recipe`."""
        return resolve_recipe(self.file, self.overrides, converted)


def asked(
    source: Any,
    source_options: SourceOptions | None = None,
    *,
    recipe: str | RecipeFile | None = None,
    overrides: Mapping[str, JsonValue] | None = None,
    data: DataOptions | None = None,
) -> Request:
    """A request; a recipe's file is read here and nowhere else.

    Args:
        source: whatever names a network; None takes the recipe's.
        source_options: how to read it. A seed that they give wins over the recipe's.
        recipe: name or file, or what was read of one.
        overrides: knobs by name.
        data: images.

    Raises:
        UsageError: the recipe or an override makes no sense, or nothing names a network.
    """
    check_given(source_options, data)
    if overrides is not None:
        check_is("overrides", overrides, Mapping, "a dictionary of knobs")
    file, turned = read_recipe(recipe), dict(overrides or {})
    named, how = named_source(source, source_options, file)
    _check_names(turned, "overrides")
    knobs = DEFAULTS | load_recipe(file) | turned
    seed = recipe_of(_warmed_up(knobs, turned, quietly=True), file, turned).seed
    if how.seed is None:
        how = replace(how, seed=seed)
    return Request(file, turned, named, how, None if data is None else file.batched(data))


def named_source(
    source: Any, options: SourceOptions | None, recipe: RecipeFile
) -> tuple[Any, SourceOptions]:
    """What to open, and how: what the user named, else the recipe's own network.

    Raises:
        UsageError: neither names one.
    """
    options = options or SourceOptions()
    if source is not None:
        return source, options
    if recipe.source is None:
        hint = f"; the recipe `{recipe.name}` names no network" if recipe.name else ""
        raise UsageError(
            "expected a SOURCE, got none; give a model's name, a checkpoint file or a folder" + hint
        )
    return recipe.source, replace(options, pretrained=options.pretrained and recipe.pretrained)


def load_recipe(name_or_file: str | RecipeFile) -> dict[str, JsonValue]:
    """The knobs that a named recipe, a YAML file, or the `args.yaml` of an earlier run sets.

    Raises:
        UsageError: see `read_recipe`; or a knob that does not exist.
    """
    file = read_recipe(name_or_file)
    _check_names(file.knobs, file.name)
    return file.knobs


def resolve_recipe(
    recipe: str | RecipeFile | None, overrides: Mapping[str, JsonValue], converted: bool
) -> Recipe:
    """The recipe of a run: defaults, then a named recipe or file, then overrides.

    Args:
        recipe: name or file, perhaps read already; None and an empty one are `default` for a
            converted network and `float` for a float one.
        overrides: knobs by name; wins.
        converted: whether the network is binary. A float one is its own teacher's equal, so it does
            not distill unless an override says so.

    Raises:
        UsageError: an unknown name, or a value that cannot be meant.
    """
    _check_names(overrides, "overrides")
    file = read_recipe(recipe)
    knobs = DEFAULTS | load_recipe(file if file.name else _unnamed(converted))
    if not converted:
        knobs["distill"] = False
    return recipe_of(_warmed_up(knobs | dict(overrides), overrides), file, overrides)


def _unnamed(converted: bool) -> RecipeFile:
    """What stands for no recipe."""
    return RecipeFile(DEFAULT) if converted else read_recipe("float")


def _warmed_up(
    knobs: dict[str, JsonValue], overrides: Mapping[str, JsonValue], *, quietly: bool = False
) -> dict[str, JsonValue]:
    """Half the epochs for a warm-up that nobody asked for, where they are too few for the whole."""
    if "warmup_epochs" in overrides or "epochs" not in overrides:
        return knobs
    epochs, before = knobs["epochs"], (knobs["float_epochs"], knobs["activation_epochs"])
    numbers = (epochs, *before, knobs["warmup_epochs"])
    if not all(isinstance(n, int | float) for n in numbers):
        return knobs  # told below
    shortest = min((n for n in (*before, epochs - sum(before)) if n), default=0)
    if shortest <= 0 or knobs["warmup_epochs"] < shortest:
        return knobs
    if not quietly:
        _log.warning(
            "%g %s for the recipe's warm-up of %g; it takes %g instead",
            shortest,
            "epoch is too short" if shortest == 1 else "epochs are too few",
            knobs["warmup_epochs"],
            shortest / 2,
        )
    return knobs | {"warmup_epochs": shortest / 2}


def _check_names(knobs: Mapping[str, JsonValue], where: str) -> None:
    for name in knobs:
        if name not in FIELD_NAMES:
            raise UsageError(
                f"`recipe=`: {where} sets `{name}`, which is no knob"
                f"{nearest(str(name), (*FIELD_NAMES, *HEAD))}"
            )
