from __future__ import annotations

from dataclasses import fields

from irbin.cli.recipe_options import RecipeFlags, complete_recipe
from irbin.recipes.file import recipe_names
from irbin.recipes.recipe import Recipe
from irbin.recipes.request import resolve_recipe


def test_every_knob_of_the_recipe_has_its_flag() -> None:
    assert {f.name for f in fields(RecipeFlags)} == {f.name for f in fields(Recipe)}


def test_no_flag_overrides_nothing() -> None:
    assert RecipeFlags().overrides() == {}


def test_overrides_are_what_the_recipe_takes() -> None:
    flags = RecipeFlags(
        epochs=3,
        crop_padding="2",
        opt_kwargs=["nesterov=True"],
        decay_milestones=[1.0, 2.0],
        scale=(0.5, 1.0),
        distill=False,
        lr=0.5,
        aa="rand-m9-mstd0.5",
    )
    recipe = resolve_recipe(None, flags.overrides(), converted=True)
    assert recipe.crop_padding == 2
    assert recipe.opt_kwargs == {"nesterov": True}
    assert recipe.decay_milestones == (1.0, 2.0)
    assert (recipe.epochs, recipe.lr, recipe.distill) == (3, 0.5, False)
    automatic = RecipeFlags(crop_padding="auto").overrides()
    assert resolve_recipe(None, automatic, converted=True).crop_padding == "auto"


def test_recipes_are_completed_by_name() -> None:
    assert tuple(complete_recipe("")) == recipe_names()
    assert list(complete_recipe("no-such")) == []
