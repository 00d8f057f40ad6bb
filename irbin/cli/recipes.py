"""`irbin recipes`: the recipes that come with irbin, and any of them as a file to copy."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.text import Text

from irbin.cli.console import STDOUT, check_json_target, notes, results, say, write_json
from irbin.cli.flags import flat
from irbin.cli.options import Json
from irbin.cli.recipe_options import complete_recipe
from irbin.errors import UsageError
from irbin.records.json import JsonValue, to_json
from irbin.records.options import DEFAULT_BATCH_SIZE
from irbin.report.fitting import plain_table

if TYPE_CHECKING:
    from irbin.recipes.file import RecipeFile
    from irbin.recipes.recipe import Recipe

FAMILIES = {
    "": "general",
    "paper-": "the paper's",
    "irbin-": "irbin's, for accuracy",
    "quick-": "irbin's, for an evening",
}
"""What the recipes whose names begin so are; '' is all others."""


@flat
def recipes(
    action: Annotated[
        Literal["show"] | None,
        typer.Argument(metavar="show", show_default=False, help="Print one instead of the list."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            autocompletion=complete_recipe,
            show_default=False,
            help="Which: a name of the list, or a YAML file.",
        ),
    ] = None,
    resolved: Annotated[
        bool,
        typer.Option("--resolved", help="Print every option and knob with the value it gets."),
    ] = False,
    json_to: Json = None,
) -> None:
    """List the recipes of irbin finetune and convert, or print one to copy.

    A recipe is a YAML file of training knobs that may also name the network it trains and how that
    is converted: irbin finetune --recipe NAME --data-dir DATA -o RUN then does all of it. To change
    one: irbin recipes show NAME > mine.yaml, edit it, and give --recipe mine.yaml. What a file does
    not say is as in default; flags override it.
    """
    check_json_target(json_to)
    if action is None:
        if resolved:
            raise UsageError("`--resolved` prints one recipe: give `show NAME` too")
        _list(json_to)
    elif name is None:
        raise UsageError("expected a name after `show`, got none; `irbin recipes` lists them")
    else:
        _show(name, resolved, json_to)


def _show(name: str, resolved: bool, json_to: str | None) -> None:
    from irbin.recipes.file import read_recipe

    try:
        file = read_recipe(name)
        recipe = _recipe_of(file)
    except UsageError as error:  # this command has no `--recipe`
        raise UsageError(re.sub("`recipe=?`", "`NAME`", str(error), count=1)) from None
    if json_to is not None:
        write_json(_as_json(file, recipe), json_to)
    if json_to == STDOUT:
        return
    sys.stdout.write(_resolved_text(file, recipe) if resolved else file.text)


def _resolved_text(file: RecipeFile, recipe: Recipe) -> str:
    """A recipe's file that says everything itself."""
    from irbin.recipes.file import knob_lines, line_of

    value = _as_json(file, recipe)

    head = {
        name: value[name] for name in ("about", "source", "pretrained", "batch_size", "convert")
    }
    if file.source is None:
        del head["source"], head["pretrained"]
    if file.convert is None:
        del head["convert"]
    lines = [line_of(name, value) + "\n" for name, value in head.items()]
    return "".join(lines) + knob_lines(recipe)


def _recipe_of(file: RecipeFile) -> Recipe:
    """The knobs that a recipe sets, the others as in the default one."""
    from irbin.recipes.request import resolve_recipe

    try:
        return resolve_recipe(file, {}, converted=True)
    except UsageError as error:
        if file.name in str(error):
            raise
        raise UsageError(f"`recipe`: {file.name}: {error}") from error


def _as_json(file: RecipeFile, recipe: Recipe) -> dict[str, JsonValue]:
    """Everything a recipe says or leaves to the defaults."""
    options = file.plan_options
    return {
        "name": file.name,
        "about": file.about,
        "source": file.source,
        "pretrained": file.pretrained,
        "batch_size": file.batch_size or DEFAULT_BATCH_SIZE,
        "convert": None if options is None else to_json(options),
        "recipe": to_json(recipe),
    }


def _list(json_to: str | None) -> None:
    from irbin.recipes.file import read_recipe, recipe_names

    files = [read_recipe(name) for name in recipe_names()]
    values = [_as_json(file, _recipe_of(file)) for file in files]
    screen = results(json_to)
    table = plain_table()
    for head in ("recipe", "bits", "epochs", "what for"):
        table.add_column(
            head, justify="right" if head == "epochs" else "left", no_wrap=head != "what for"
        )
    for prefix, title in FAMILIES.items():
        table.add_row(Text(title, style="bold"))
        for value in values:
            if _family(value["name"]) == prefix:
                row = (value["name"], _bits(value["convert"]))
                table.add_row(*row, str(value["recipe"]["epochs"]), value["about"])
        table.add_row()
    screen.print(table)
    say(notes(), "next: irbin recipes show NAME; irbin finetune --recipe NAME …", style="dim")
    write_json({"recipes": values}, json_to)


def _family(name: str) -> str:
    """The beginning of a name that says what it belongs to."""
    return next((prefix for prefix in FAMILIES if prefix and name.startswith(prefix)), "")


def _bits(options: dict[str, JsonValue] | None) -> str:
    """What a recipe converts to; nothing where the network is trained as it is."""
    return "" if options is None else str(options["bits"])
