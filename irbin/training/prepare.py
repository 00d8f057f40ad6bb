"""Before a run's first step: loaders, a teacher that is ready, what the network becomes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial

import torch
from torch import Tensor, nn

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
from irbin.training.precision import uses_channels_last
from irbin.training.recipe import Recipe

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
