"""Data sets become loaders: streamed by workers, or decoded once where they fit into memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from irbin.data.batches import Images, Loader, Stream
from irbin.data.cached import CachedLoader, decode
from irbin.data.choice import UNEVEN, Choice, choose, in_words, refuse
from irbin.data.images import eval_transform, fit_transform, native_transform
from irbin.data.streamed import StreamedLoader, UnevenImagesError
from irbin.records.options import DataOptions

Report = Callable[[int, int], None]
"""Called with images decoded and images in all."""


def eval_loader(
    dataset: Images | Stream,
    options: DataOptions,
    *,
    device: str | torch.device = "cpu",
    n_classes: int | None = None,
    channels_last: bool = False,
    rank: int = 0,
    world_size: int = 1,
) -> Loader:
    """Every image of a data set, in order, none twice; over all ranks where there are several.

    Args:
        dataset: what `open_dataset` gave.
        options: batch size and workers.
        device: where batches go.
        n_classes: labels must lie below it; None does not look.
        channels_last: memory format of the images.
        rank: number of this process, which gets images rank, rank + world_size …
        world_size: processes that share the images.
    """
    return StreamedLoader(
        dataset,
        options,
        device=device,
        n_classes=n_classes,
        channels_last=channels_last,
        rank=rank,
        world_size=world_size,
    )


def train_loader(
    dataset: Images | Stream,
    options: DataOptions,
    *,
    seed: int,
    device: str | torch.device = "cpu",
    n_classes: int | None = None,
    channels_last: bool = False,
    rank: int = 0,
    world_size: int = 1,
    accumulation: int = 1,
) -> Loader:
    """A data set shuffled, in whole batches; `set_epoch` says which order and where to begin.

    Args:
        dataset: what `open_dataset` gave, with an augmentation or without.
        options: batch size and workers.
        seed: decides the order.
        device: where batches go.
        n_classes: labels must lie below it; None does not look.
        channels_last: memory format of the images.
        rank: number of this process.
        world_size: processes that share the images.
        accumulation: batches in a global step of one process.
    """
    return StreamedLoader(
        dataset,
        options,
        training=True,
        seed=seed,
        device=device,
        n_classes=n_classes,
        channels_last=channels_last,
        rank=rank,
        world_size=world_size,
        accumulation=accumulation,
    )


def make_loaders(
    training: Images | Stream,
    validation: Images | Stream,
    options: DataOptions,
    *,
    seed: int,
    device: str | torch.device = "cpu",
    n_classes: int | None = None,
    channels_last: bool = False,
    rank: int = 0,
    world_size: int = 1,
    accumulation: int = 1,
    report: Report | None = None,
) -> tuple[Loader, Loader]:
    """The loaders of a run, cached as `options.cache` says; `why` of both says what was chosen.

    Args:
        training: what `open_dataset` gave.
        validation: what `open_dataset` gave, without an augmentation.
        options: batch size, workers, cache.
        seed: decides the order.
        device: where batches go.
        n_classes: labels must lie below it; None does not look.
        channels_last: memory format of the images.
        rank: number of this process.
        world_size: processes that share the images.
        accumulation: batches in a global step of one process.
        report: called while images are decoded.

    Raises:
        UsageError: a cache was asked for that is not possible, or too few images for one step.
        DataError: an image that cannot be decoded.
    """
    place = torch.device(device)
    common: dict[str, Any] = {
        "device": place,
        "n_classes": n_classes,
        "channels_last": channels_last,
        "rank": rank,
        "world_size": world_size,
    }
    own: dict[str, Any] = {"training": True, "seed": seed, "accumulation": accumulation}
    choice = choose(training, validation, options, place, world_size)
    if choice.where:
        try:
            assert isinstance(training, Images)
            assert isinstance(validation, Images)
            return _cached(training, validation, options, choice, common, own, report)
        except UnevenImagesError:
            choice = refuse(options, UNEVEN)
    streamed = StreamedLoader(training, options, **common, **own)
    streamed.why += choice.reason
    held_out = StreamedLoader(validation, options, **common)
    held_out.why += choice.reason
    return streamed, held_out


def _cached(
    training: Images,
    validation: Images,
    options: DataOptions,
    choice: Choice,
    common: dict[str, Any],
    own: dict[str, Any],
    report: Report | None,
) -> tuple[Loader, Loader]:
    total = len(training) + len(validation)

    def told(before: int) -> Callable[[int], None] | None:
        return None if report is None else lambda done: report(before + done, total)

    fit = native_transform() if choice.native else fit_transform(training.preprocessing)
    pixels = decode(training, fit, options, told(0))
    seen = eval_transform(training.preprocessing)
    held_out = decode(validation, seen, options, told(len(training)))
    n_bytes = pixels.images.numel() + held_out.images.numel()
    memory = "RAM"
    if choice.where == "device":
        pixels, held_out = pixels.to(common["device"]), held_out.to(common["device"])
        memory = "the device's memory"
    train = CachedLoader(training, pixels, options, **common, **own)
    val = CachedLoader(validation, held_out, options, **common)
    train.why = val.why = (
        f"images: {len(training):,} + {len(validation):,} decoded once, {in_words(n_bytes)} in "
        f"{memory}, augmented in batches"
    )
    return train, val
