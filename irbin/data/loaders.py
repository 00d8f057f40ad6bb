"""Data sets become loaders: streamed by workers, or decoded once where they fit into memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from irbin.data.batches import Images, Loader, Stream
from irbin.data.cached import CachedLoader, decode
from irbin.data.choice import UNEVEN, Choice, Least, choose, in_words, refuse
from irbin.data.images import eval_transform, fit_transform, native_transform
from irbin.data.order import IN_ORDER, Feed
from irbin.data.streamed import StreamedLoader, UnevenImagesError
from irbin.records.options import DataOptions
from irbin.records.progress import OnProgress


def eval_loader(dataset: Images | Stream, options: DataOptions, feed: Feed = IN_ORDER) -> Loader:
    """Every image of a data set, in order, none twice; over all ranks where there are several.

    Args:
        dataset: what `open_dataset` gave.
        options: batch size and workers.
        feed: to whom; not in training.
    """
    return StreamedLoader(dataset, options, replace(feed, training=False))


def train_loader(dataset: Images | Stream, options: DataOptions, feed: Feed) -> Loader:
    """A data set shuffled, in whole batches; `set_epoch` says which order and where to begin.

    Args:
        dataset: what `open_dataset` gave, with an augmentation or without.
        options: batch size and workers.
        feed: to whom; in training.
    """
    return StreamedLoader(dataset, options, replace(feed, training=True))


def make_loaders(
    training: Images | Stream,
    validation: Images | Stream,
    options: DataOptions,
    feed: Feed,
    report: OnProgress | None = None,
    least: Least = list,
) -> tuple[Loader, Loader]:
    """The loaders of a run, cached as `options.cache` says; `why` of both says what was chosen.

    Args:
        training: what `open_dataset` gave.
        validation: what `open_dataset` gave, without an augmentation.
        options: batch size, workers, cache.
        feed: to whom; in training for the first of the two alone.
        report: called while images are decoded.
        least: over all processes, of the memory that each has.

    Raises:
        UsageError: a cache was asked for that is not possible, or too few images for one step.
        DataError: an image that cannot be decoded.
    """
    choice = choose(
        training, validation, options, torch.device(feed.device), feed.world_size, least
    )
    if choice.where:
        try:
            assert isinstance(training, Images)
            assert isinstance(validation, Images)
            return _cached(training, validation, options, choice, feed, report)
        except UnevenImagesError:
            choice = refuse(options, UNEVEN)
    streamed = train_loader(training, options, feed)
    streamed.why += choice.reason
    held_out = eval_loader(validation, options, feed)
    held_out.why += choice.reason
    return streamed, held_out


def _cached(
    training: Images,
    validation: Images,
    options: DataOptions,
    choice: Choice,
    feed: Feed,
    report: OnProgress | None,
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
        device = torch.device(feed.device)
        pixels, held_out = pixels.to(device), held_out.to(device)
        memory = "the device's memory"
    train = CachedLoader(training, pixels, options, replace(feed, training=True))
    val = CachedLoader(validation, held_out, options, replace(feed, training=False))
    train.why = val.why = (
        f"images: {len(training):,} + {len(validation):,} decoded once, {in_words(n_bytes)} in "
        f"{memory}, augmented in batches"
    )
    return train, val
