"""A float network made binary, as options or a recipe say: what `convert` and `finetune` share."""

from __future__ import annotations

import logging
from functools import partial

from irbin.errors import MixedImagesError
from irbin.planning.plan import make_plan
from irbin.program.lower import check_lowers
from irbin.recipes.file import RecipeFile
from irbin.records.options import CALIBRATION_IMAGES, DataOptions
from irbin.records.plan import Plan, PlanOptions
from irbin.rewriting.calibrate import calibrate
from irbin.rewriting.network import Network
from irbin.rewriting.rewrite import rewrite
from irbin.runs.listener import Stage, ignore
from irbin.tracing.trace import trace

_log = logging.getLogger("irbin")


def make_binary(
    network: Network,
    options: PlanOptions,
    data: DataOptions | None = None,
    n_images: int = 0,
    stage: Stage = ignore,
) -> Network:
    """A float network converted in memory; the float one is left as it is.

    That the result can be exported is found out now; where only its images do not stay apart, a
    warning says so.

    Args:
        network: a float one.
        options: of its plan.
        data: training images to re-estimate batch-norm statistics on.
        n_images: how many; 0 leaves the statistics.
        stage: told what is being done, and of how many images.

    Raises:
        PlanError, ConvertError: see `planning.plan`, `rewriting.rewrite`, `rewriting.calibrate`.
        LowerError: no packed network could be made of it; see `program.lower`.
    """
    input_size = network.source.preprocessing.input_size
    stage("tracing the network", 0, 0)
    graph = trace(network.module, input_size)
    stage("replacing layers", 0, 0)
    converted = rewrite(network, make_plan(graph, options))
    stage("checking that the result can be exported", 0, 0)
    try:
        check_lowers(converted.module, input_size)
    except MixedImagesError as error:  # it trains and is evaluated like any other
        _log.warning("this network can be trained, but not exported: %s", error)
    if n_images and data is not None:
        calibrate(converted, data, n_images, partial(stage, "calibrating"))
    return converted


def as_recipe_says(
    network: Network,
    recipe: RecipeFile,
    data: DataOptions,
    calibrated: bool,
    stage: Stage,
) -> Network:
    """A float network converted where the recipe converts; any other one as it is.

    The result is that of `irbin convert` with the same data. Where a converted network is not what
    the recipe was made for, a note says so.

    Args:
        network: float or converted.
        recipe: what it says.
        data: training images for batch-norm statistics.
        calibrated: whether the statistics are wanted; False where others replace them anyway.
        stage: told of progress.

    Raises:
        PlanError, ConvertError: see `make_binary`.
    """
    options = recipe.plan_options
    if options is None:
        return network
    if network.plan is not None:
        _note_differences(network.plan, options, recipe.name)
        return network
    n_images = CALIBRATION_IMAGES * calibrated
    return make_binary(network, options, data, n_images, stage)


def conversion_line(plan: Plan, recipe: str) -> str:
    """One line for the start of a run that converted its source."""
    changed = vars(plan.options).items() - vars(PlanOptions(bits=plan.options.bits)).items()
    words = ", ".join([plan.options.bits, *(f"{name} {_worded(v)}" for name, v in sorted(changed))])
    return f"converted as {recipe} says: {len(plan.binary_names)} binary layers ({words})"


def _note_differences(plan: Plan, wanted: PlanOptions, recipe: str) -> None:
    """Tells which options of a conversion are not the recipe's; the network is trained anyway."""
    different = [
        f"`{name}` {_worded(getattr(plan.options, name))} instead of {_worded(value)}"
        for name, value in vars(wanted).items()
        if getattr(plan.options, name) != value
    ]
    if different:
        _log.warning(
            "the recipe `%s` is made for another conversion: this network has %s",
            recipe,
            ", ".join(different),
        )


def _worded(value: object) -> str:
    return (", ".join(value) or "none") if isinstance(value, tuple) else str(value)
