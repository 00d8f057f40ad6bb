"""The recipe's knobs as flags of `irbin finetune`; `recipes.recipe.Recipe` declares them.

None means "as the recipe says". What values a knob takes is checked there, once, whether they come
from a flag or from a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from irbin.cli.record_flags import Flags
from irbin.recipes.recipe import Recipe


def complete_recipe(incomplete: str) -> Iterator[str]:
    """Names of the recipes that come with irbin, for the shell's completion."""
    folder = Path(__file__).parents[1] / "recipes"
    names = ["default", *(path.stem for path in folder.glob("*.yaml"))]
    yield from sorted(name for name in names if name.startswith(incomplete))


RecipeName = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        "--config",
        "-c",
        metavar="NAME|FILE",
        autocompletion=complete_recipe,
        show_default="default, or float for an unconverted network",
        help="Recipe or YAML file that sets defaults; flags override it.",
    ),
]


class RecipeFlags(Flags, record=Recipe, defaults="hidden"):
    """Fields of `recipes.recipe.Recipe`, each under its own name."""

    overrides = Flags.values
    """The knobs that were turned, by field name."""
