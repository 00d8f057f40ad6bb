"""Before a run's first step: loaders, a teacher that is ready, a device that works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from irbin.data import (
    check_classes,
    check_same_classes,
    class_names,
    eval_loader,
    open_dataset,
    train_loader,
)
from irbin.data.batches import Loader
from irbin.data.images import Augmentation
from irbin.errors import UsageError
from irbin.network.network import Network
from irbin.records import DataOptions
from irbin.training.recipe import Recipe


def open_loaders(
    network: Network, data: DataOptions, recipe: Recipe, device: torch.device
) -> tuple[Loader, Loader]:
    """Training batches, augmented and shuffled, and every image of the validation split.

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
    settings: dict[str, Any] = {
        "device": device, "n_classes": source.num_classes, "channels_last": recipe.channels_last,
    }  # fmt: skip
    train = train_loader(train_set, data, seed=recipe.seed, **settings)
    if train.batch_size < 2:
        raise UsageError(
            "`batch_size`: expected at least 2 images a step, which batch norm needs, got "
            f"{train.batch_size}"
        )
    return train, eval_loader(val_set, data, **settings)


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


def ready_device(name: str) -> torch.device:
    """The device of that name.

    Raises:
        UsageError: torch knows no such device, or has none here.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, ImportError) as error:
        first = str(error).splitlines()[0]
        raise UsageError(
            f"`device`: expected one this torch can use, got `{name}`: {first}"
        ) from error
    return device
