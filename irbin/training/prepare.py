"""Before a run's first step: loaders, a teacher that is ready, what the network becomes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from timm.utils import ModelEmaV3
from torch import nn

from irbin.binary.anneal import EdePhase
from irbin.binary.layers import binary_layers, phase_of
from irbin.data import (
    check_splits,
    class_names,
    make_loaders,
    open_dataset,
)
from irbin.data.batches import Loader
from irbin.data.cached import CachedLoader
from irbin.data.images import Augmentation
from irbin.data.order import Feed
from irbin.errors import UsageError
from irbin.processes import Group
from irbin.recipes.recipe import Recipe
from irbin.records.options import CacheKind, DataOptions
from irbin.rewriting.network import Network
from irbin.runs.listener import NOBODY, Listener, Stage, ignore
from irbin.sources.feeding import after_training as fed_in_training
from irbin.training.blocks import Watched, common_places
from irbin.training.mixing import make_mix
from irbin.training.optimize import make_optimizer, make_scheduler
from irbin.training.parallel import parallel
from irbin.training.precision import (
    compiled,
    compiled_teacher,
    keep_gradients_channels_last,
    uses_channels_last,
)
from irbin.training.run import Run
from irbin.training.stages import TrainingStage, stages_of
from irbin.training.sync_norm import synchronized
from irbin.training.views import TaughtViews, taught_views
from irbin.watching.diagnostics import Diagnostics


def open_loaders(
    network: Network,
    data: DataOptions,
    recipe: Recipe,
    group: Group,
    stage: Stage = ignore,
) -> tuple[Loader, Loader]:
    """Training batches, augmented and shuffled, and every image of the validation split.

    Args:
        network: what they are for.
        data: splits, batch size, cache.
        recipe: augmentation, memory format, batches of a step.
        group: processes that share the images.
        stage: told of images decoded.

    Raises:
        DataError: see `data`; also classes that differ between splits or from the network.
        UsageError: batches too small for batch norm.
    """
    source = network.source
    knobs = {field.name: getattr(recipe, field.name) for field in fields(Augmentation)}
    train_set = open_dataset(
        data,
        data.train_split,
        source.preprocessing,
        training=True,
        augmentation=Augmentation(**knobs),
        seed=recipe.seed,
    )
    val_set = open_dataset(data, data.val_split, source.preprocessing)
    # a teacher knows the old classes; without one the network learns new ones
    by_map = bool(data.class_map) or not recipe.distill
    check_splits(source, train_set, val_set, by_map=by_map)
    train, val = make_loaders(
        train_set,
        val_set,
        data,
        Feed(
            seed=recipe.seed,
            device=group.device,
            n_classes=source.num_classes,
            channels_last=uses_channels_last(recipe, network.module, group.device),
            rank=group.rank,
            world_size=group.size,
            accumulation=recipe.grad_accum_steps,
        ),
        report=partial(stage, "decoding images"),
        least=group.least,
    )
    if train.batch_size < 2:
        raise UsageError(
            "`batch_size`: expected at least 2 images a step, which batch norm needs, got "
            f"{train.batch_size}"
        )
    return train, val


def cache_of(loader: Loader) -> CacheKind:
    """Where a loader keeps its images; `off` where it streams them."""
    return loader.kept if isinstance(loader, CachedLoader) else "off"


def after_training(network: Network, train: Loader) -> Network:
    """The same module with the record of what training makes of it.

    A float network becomes a trained one, which may teach; either learns the names of its classes
    from the data set, and is one that was trained on images fed in this way.
    """
    source = network.source
    names = class_names(train.dataset)
    learned = replace(
        source,
        trained=source.trained or network.plan is None,
        class_names=names or source.class_names,
        published_names=source.published_names and names is None,
        stated_by=fed_in_training(source),
    )
    return replace(network, source=learned)


def ready_teacher(
    teacher: nn.Module | None, recipe: Recipe, device: torch.device
) -> nn.Module | None:
    """The teacher, in place, on the device to evaluate; None where the recipe does not distill."""
    if teacher is None or not recipe.distill:
        return None
    teacher = teacher.to(device).eval()
    return teacher.to(memory_format=torch.channels_last) if recipe.channels_last else teacher


def _watched(
    module: nn.Module,
    teacher: nn.Module | None,
    recipe: Recipe,
    shape: tuple[int, ...],
    device: torch.device,
) -> tuple[Watched, ...]:
    """Network and teacher where the recipe compares their blocks; else none."""
    if teacher is None or recipe.distill_blocks == 0:
        return ()
    places = common_places(module, teacher, torch.zeros(2, *shape, device=device))
    return Watched(module, places), Watched(teacher, places).eval()


def _views(
    teacher: nn.Module | None, recipe: Recipe, network: Network, train: Loader, group: Group
) -> TaughtViews | None:
    """The table of a teacher's answers where views repeat; None where they do not.

    Raises:
        UsageError: there is no teacher, or see `training.views`.
    """
    n_views = recipe.repeat_views
    if n_views and teacher is None:
        raise UsageError(
            "`repeat_views`: expected a teacher, whose answers are then looked up, got a network "
            "whose source has no trained weights; name one with `teacher=`"
        )
    return taught_views(
        n_views, train, network.source.num_classes, group.device, n_processes=group.size
    )


def _average(module: nn.Module, recipe: Recipe) -> ModelEmaV3 | None:
    """Averaged weights, where the recipe asks for them."""
    if not recipe.model_ema:
        return None
    return ModelEmaV3(module, decay=recipe.model_ema_decay, use_warmup=recipe.model_ema_warmup)


def _compiled(
    module: nn.Module,
    teacher: nn.Module | None,
    recipe: Recipe,
    batch_shape: tuple[int, ...],
    group: Group,
    must_compile: bool,
) -> tuple[Callable[..., Any], Callable[..., Any] | None]:
    """Network and teacher compiled; as they are, both, where one process cannot compile."""
    forward = compiled(module, recipe, batch_shape, group.device, must_compile)
    if group.any(forward is module):  # one that fell back takes the others along
        return module, teacher
    if teacher is None:
        return forward, None
    return forward, compiled_teacher(teacher, recipe, batch_shape, group.device, must_compile)


def make_run(
    network: Network,
    recipe: Recipe,
    out: Path,
    group: Group,
    loaders: tuple[Loader, Loader],
    *,
    n_steps: int,
    must_compile: bool,
    teacher: nn.Module | None = None,
    listener: Listener = NOBODY,
) -> Run:
    """Everything the loop works with; the network is made ready in place.

    The recipe of the run says what happened: `compile` is false where torch.compile failed.

    Args:
        network: on the device.
        recipe: without `auto`.
        out: run folder.
        group: the processes.
        loaders: training and validation batches.
        n_steps: steps of an epoch.
        must_compile: raise where torch.compile fails, instead of training without it.
        teacher: see `ready_teacher`.
        listener: told that the network is being compiled, and by the loop.
    """
    (train, val), device = loaders, group.device
    shape = network.source.preprocessing.input_size
    if recipe.sync_bn:
        network = replace(network, module=synchronized(network.module, group))
    module = network.module
    if recipe.channels_last:
        module.to(memory_format=torch.channels_last)
    stages = stages_of(recipe)
    phase = _phase(network, recipe, stages[0])
    _check_stages(network, recipe)
    ema = _average(module, recipe)
    teacher = ready_teacher(teacher, recipe, device)
    views = _views(teacher, recipe, network, train, group)
    watched = _watched(module, teacher, recipe, shape, device)
    whole, teacher = watched or (module, teacher)
    forward: Callable[..., Any] = whole
    asked: Callable[..., Any] | None = teacher
    if recipe.compile:
        listener.stage("compiling the network", 0, 0)
        batch_shape = (train.batch_size, *shape)
        forward, asked = _compiled(whole, teacher, recipe, batch_shape, group, must_compile)
        recipe = replace(recipe, compile=forward is not whole)
    if forward is whole and recipe.channels_last:
        keep_gradients_channels_last(module)
    optimizer = make_optimizer(module, stages[0].recipe)
    schedulers = {s.name: make_scheduler(optimizer, s.recipe, n_steps) for s in reversed(stages)}
    return Run(
        network,
        recipe,
        out,
        group,
        train,
        val,
        phase,
        forward=parallel(forward, module, recipe, group),
        teacher=asked,
        views=views,
        watched=watched,
        mix=make_mix(recipe, network.source.num_classes, train.batch_size, device),
        optimizer=optimizer,
        stages=stages,
        schedulers=schedulers,
        scaler=torch.amp.GradScaler(device.type, enabled=recipe.amp == "float16"),
        ema=ema,
        diagnostics=Diagnostics(module if group.is_first else nn.Identity()),
        n_steps=n_steps,
        listener=listener,
    )


def _phase(network: Network, recipe: Recipe, first: TrainingStage) -> EdePhase | None:
    """EDE's phase, set to the run's beginning, in place; None for a float network."""
    if network.plan is None:
        return None
    phase = phase_of(network.module)
    phase.set_range(recipe.t_min, recipe.t_max, recipe.ede_scale)
    phase.spreads_inputs = recipe.input_spread == "image"
    if recipe.recu:
        phase.set_clamp(recipe.tau_min, recipe.tau_max)
    phase.set_stage(first.binary_weights, first.binary_activations)
    return phase


def _check_stages(network: Network, recipe: Recipe) -> None:
    """Refuses stages that a network cannot have.

    Raises:
        UsageError: nothing in it is binary, or no activation is where those come first.
    """
    if network.plan is None and recipe.float_epochs + recipe.activation_epochs > 0:
        raise UsageError(
            "`float_epochs` and `activation_epochs`: expected a converted network, got a float one"
        )
    methods = [layer.method for layer in binary_layers(network.module).values()]
    if recipe.activation_epochs > 0 and not any(m.binary_activations for m in methods):
        raise UsageError(
            "`activation_epochs`: expected a network with binary activations (1w1a), got 1w32a"
        )
