"""Images decoded once, held as uint8, cut and flipped in batches where the network trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from irbin.data.augment import BatchAugmentation
from irbin.data.batches import Images, Loader
from irbin.data.images import Transform
from irbin.data.order import IN_ORDER, Feed, Indices, make_deal
from irbin.data.sending import moved, sent
from irbin.data.streamed import StreamedLoader, UnevenImagesError
from irbin.records.options import DataOptions

_CHUNK = 64
"""Images that a worker hands over at once."""


@dataclass(frozen=True, eq=False)
class Pixels:
    """A split in memory. Made by `decode`, read by `CachedLoader`."""

    images: Tensor
    """(n_images, channels, height, width) uint8, channels-last."""
    labels: Tensor
    """(n_images,) int64."""

    def to(self, device: torch.device) -> Pixels:
        """The same on a device."""
        return Pixels(self.images.to(device), self.labels.to(device))


def decode(
    dataset: Images,
    transform: Transform,
    options: DataOptions,
    report: Callable[[int], None] | None = None,
) -> Pixels:
    """Reads every image once, by `options.workers` processes.

    Args:
        dataset: what to read.
        transform: PIL image to uint8 tensor, the same size for all.
        options: workers.
        report: called with the images done.

    Raises:
        DataError: an image that cannot be decoded.
        UnevenImagesError: images of several sizes.
    """
    plain = Images(dataset.base, transform, dataset.preprocessing, 0, dataset.place)
    loader = StreamedLoader(plain, replace(options, batch_size=_CHUNK))
    n = len(dataset)
    images, labels = None, torch.empty(n, dtype=torch.int64)
    n_done = 0
    for batch, targets in loader.raw():
        if images is None:
            images = torch.empty(
                (n, *batch.shape[1:]), dtype=torch.uint8, memory_format=torch.channels_last
            )
        if batch.shape[1:] != images.shape[1:]:
            loader.close()
            raise UnevenImagesError("expected images of one size")
        images[n_done : n_done + len(batch)] = batch
        labels[n_done : n_done + len(batch)] = targets
        n_done += len(batch)
        if report is not None:
            report(n_done)
    loader.close()
    assert images is not None
    return Pixels(images, labels)


class CachedLoader(Loader):
    """A loader whose images lie in memory.

    Args:
        dataset: what was decoded; says how training images are augmented.
        pixels: its images, on the device or in RAM.
        options: batch size.
        feed: in training images are augmented too; the data set's own seed decides that.

    Raises:
        DataError: labels without an output.
        UsageError: too few images for one global step.
    """

    def __init__(
        self,
        dataset: Images,
        pixels: Pixels,
        options: DataOptions,
        feed: Feed = IN_ORDER,
    ) -> None:
        n = len(dataset)
        self._deal = None
        batch_size = min(options.n_batch, n)
        if feed.training:
            self._deal = make_deal(
                n, options.n_batch, feed.seed, feed.rank, feed.world_size, feed.accumulation
            )
            batch_size = self._deal.batch_size
        super().__init__(dataset, batch_size, feed)
        self.check_labels(pixels.labels)
        self.why = "images: decoded once, augmented in batches"
        self._pixels = pixels
        self._mine = np.arange(feed.rank, n, feed.world_size)
        self._epoch, self._start = 0, 0
        self._augment, self._draw_seed = None, dataset.seed
        if feed.training and dataset.augmentation is not None:
            self._augment = BatchAugmentation(dataset.augmentation, dataset.preprocessing)

    @property
    def kept(self) -> Literal["ram", "device"]:
        """Where the images lie."""
        return "ram" if self._pixels.images.device.type == "cpu" else "device"

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Makes the next pass be `epoch`'s, from batch `start` on."""
        self._epoch, self._start = epoch, start

    def __len__(self) -> int:
        """Batches of this process in a whole pass."""
        return len(self._deal) if self._deal else -(-len(self._mine) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for indices in self._batches():
            images, labels = self._pick(indices)
            if self._augment is not None:
                draws = self._augment.drawn(self._draw_seed, self._epoch, indices)
                images = self._augment(images, draws)
            yield self.normalize(images), labels

    def order(self, epoch: int, start: int = 0) -> Iterator[Indices]:
        """Which images an epoch's batches show; nothing of a pass to evaluate."""
        return iter(()) if self._deal is None else self._deal.batches(epoch, start)

    def close(self) -> None:
        """Nothing to end: there are no workers."""

    def _batches(self) -> Iterator[Indices]:
        if self._deal is not None:
            yield from self._deal.batches(self._epoch, self._start)
            return
        for step in range(self._start, len(self)):
            yield self._mine[step * self.batch_size : (step + 1) * self.batch_size]

    def _pick(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """uint8 images and labels, on the device."""
        chosen = sent(indices, self._pixels.labels.device)
        images, labels = self._pixels.images[chosen], self._pixels.labels[chosen]
        if images.device.type == self.device.type:
            return images, labels
        if self.device.type == "cuda":
            images, labels = images.pin_memory(), labels.pin_memory()
        return moved(images, self.device), moved(labels, self.device)
