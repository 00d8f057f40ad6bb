"""Before a run's first step: loaders, a teacher that is ready, what the network becomes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from irbin.binary.layers import phase_of
from irbin.data import (
    check_classes,
    check_same_classes,
    class_names,
    make_loaders,
    open_dataset,
)
from irbin.data.batches import Loader
from irbin.data.cached import CachedLoader
from irbin.data.images import Augmentation
from irbin.errors import UsageError
from irbin.network.network import Network
from irbin.processes import Group
from irbin.records import CacheKind, DataOptions
from irbin.training.diagnostics import Diagnostics
from irbin.training.mixing import make_mix
from irbin.training.optimize import make_optimizer, make_scheduler
from irbin.training.precision import compiled, keep_gradients_channels_last, uses_channels_last
from irbin.training.recipe import Recipe
from irbin.training.run import OnEpoch, Report, Run, parallel
from irbin.training.sync_norm import synchronized

Stage = Callable[[str, int, int], None]
"""Told what is being prepared, how much of it is done, and how much there is (0: not counted)."""


def open_loaders(
    network: Network, data: DataOptions, recipe: Recipe, group: Group,
    stage: Stage | None = None,
) -> tuple[Loader, Loader]:  # fmt: skip
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
        data, data.train_split, source.preprocessing, training=True,
        augmentation=Augmentation(**knobs), seed=recipe.seed,
    )  # fmt: skip
    val_set = open_dataset(data, data.val_split, source.preprocessing)
    for dataset in (train_set, val_set):
        check_classes(source, dataset)
    check_same_classes(train_set, val_set)
    train, val = make_loaders(
        train_set, val_set, data, seed=recipe.seed, device=group.device,
        n_classes=source.num_classes, channels_last=uses_channels_last(recipe, network.module),
        rank=group.rank, world_size=group.size, accumulation=recipe.grad_accum_steps,
        report=None if stage is None else partial(stage, "decoding images"),
    )  # fmt: skip
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
    from the data set where it did not know them.
    """
    source = network.source
    names = source.class_names or class_names(train.dataset)
    trained = source.trained or network.plan is None
    return replace(network, source=replace(source, trained=trained, class_names=names))


def ready_teacher(
    teacher: nn.Module | None, recipe: Recipe, device: torch.device
) -> Callable[[Tensor], Tensor] | None:
    """The teacher, in place, on the device to evaluate; None where the recipe does not distill."""
    if teacher is None or not recipe.distill:
        return None
    teacher = teacher.to(device).eval()
    if recipe.channels_last:
        teacher = teacher.to(memory_format=torch.channels_last)
    return torch.compile(teacher) if recipe.compile else teacher


def make_run(
    network: Network, recipe: Recipe, out: Path, group: Group, train: Loader, val: Loader, *,
    n_steps: int, must_compile: bool, teacher: nn.Module | None = None,
    report: Report | None = None, on_epoch: OnEpoch | None = None, stage: Stage | None = None,
) -> Run:  # fmt: skip
    """Everything the loop works with; the network is made ready in place.

    Args:
        network: on the device.
        recipe: without `auto`.
        out: run folder.
        group: the processes.
        train: training batches.
        val: validation batches.
        n_steps: steps of an epoch.
        must_compile: raise where torch.compile fails, instead of training without it.
        teacher: see `ready_teacher`.
        report: told of steps.
        on_epoch: told of epochs.
        stage: told that the network is being compiled.
    """
    device, shape = group.device, network.source.preprocessing.input_size
    if recipe.sync_bn:
        network = replace(network, module=synchronized(network.module, group))
    module = network.module
    if recipe.channels_last:
        module.to(memory_format=torch.channels_last)
    phase = phase_of(module) if network.plan is not None else None
    if phase is not None:
        phase.set_range(recipe.t_min, recipe.t_max)
    ema = None
    if recipe.model_ema:
        ema = ModelEmaV3(module, decay=recipe.model_ema_decay, use_warmup=recipe.model_ema_warmup)
    forward: Callable[[Tensor], Tensor] = module
    if recipe.compile:
        if stage is not None:
            stage("compiling the network", 0, 0)
        forward = compiled(module, recipe, (train.batch_size, *shape), device, must_compile)
    if forward is module and recipe.channels_last:
        keep_gradients_channels_last(module)
    optimizer = make_optimizer(module, recipe)
    scheduler, n_epochs = make_scheduler(optimizer, recipe, n_steps)
    return Run(
        network, recipe, out, group, train, val, phase,
        forward=parallel(forward, module, recipe, group),
        teacher=ready_teacher(teacher, recipe, device),
        mix=make_mix(recipe, network.source.num_classes, train.batch_size, device),
        optimizer=optimizer, scheduler=scheduler,
        scaler=torch.amp.GradScaler(device.type, enabled=recipe.amp == "float16"),
        ema=ema, diagnostics=Diagnostics(module if group.is_first else nn.Identity()),
        n_epochs=n_epochs, n_steps=n_steps, report=report, on_epoch=on_epoch,
    )  # fmt: skip
