"""Data sets of uint8 images, and what every loader of batches has in common.

What is random about an image depends on (seed, epoch, index) alone, so a resumed run meets the same
images with any number of workers. timm's loaders draw from streams that depend on how far each
worker has come, and its data set replaces a damaged image by the next one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from irbin.data.augment import BatchAugmentation, pads_in_batches
from irbin.data.images import Augmentation
from irbin.data.order import Feed, Indices, alternating_flips
from irbin.data.seeding import seed_all
from irbin.errors import DataError
from irbin.messages import first_line
from irbin.pictures import image_mode, in_mode, read_image
from irbin.records.options import Preprocessing


class Damaged:
    """A message instead of an image: exceptions lose their one line on the way out of a worker.

    Args:
        message: the error's whole message.
        image: name and reason alone, where others of the data set may be damaged too.
    """

    def __init__(self, message: str, image: str = "") -> None:
        self.message, self.image = message, image


class Images(Dataset[tuple[Tensor, int]]):
    """A data set with random access whose images become uint8 tensors (channels, height, width).

    Keys are an index, or (epoch, index) for training, where both seed the image's augmentation.

    Args:
        base: timm's `ImageDataset` or one of torchvision's, without a transform.
        transform: PIL image to uint8 tensor; random where `augmentation` does not follow it.
        preprocessing: channels, mean and standard deviation.
        seed: first part of the key of every augmentation.
        place: the data set's name for messages.
        augmentation: what training changes at random. Where it can be done in batches it is left
            out of `transform` and follows it, with the draws that a cached loader takes.
    """

    def __init__(
        self,
        base: Any,
        transform: Callable[[Any], Tensor],
        preprocessing: Preprocessing,
        seed: int,
        place: str,
        augmentation: Augmentation | None = None,
    ) -> None:
        self.base, self.transform, self.preprocessing = base, transform, preprocessing
        self.mode = image_mode(preprocessing)
        self.seed, self.place, self.augmentation = seed, place, augmentation
        self._augment: BatchAugmentation | None = None
        if augmentation is not None and pads_in_batches(augmentation, preprocessing):
            self._augment = BatchAugmentation(augmentation, preprocessing)

    def __len__(self) -> int:
        return len(self.base)

    def __getitem__(self, key: int | tuple[int, int]) -> Any:
        epoch, index = key if isinstance(key, tuple) else (None, key)
        try:
            return self._sample(epoch, index)
        except Exception as error:  # Pillow's plug-ins raise anything; images may be bombs
            return self._damaged(index, error)

    def look(self, index: int) -> str:
        """What is wrong with an image; '' where it can be decoded and resized."""
        try:
            self._sample(None, index)
        except Exception as error:
            return self._damaged(index, error).image
        return ""

    def _sample(self, epoch: int | None, index: int) -> tuple[Tensor, int]:
        image, target = self._read(index)
        label = -1 if target is None else int(target)
        if epoch is None:
            return self.transform(image), label
        if self._augment is not None:
            draws = self._augment.drawn(self.seed, epoch, np.array([index]))
            return self._augment(self.transform(image)[None], draws)[0], label
        view = epoch if self.augmentation is None else self.augmentation.view(epoch)
        seed_all(self.seed, view, index)
        pixels = self.transform(image)
        if self.augmentation is not None and self.augmentation.flip == "alternating":
            (flips,) = alternating_flips(self.seed, view, np.array([index]))
            pixels = pixels.flip(-1) if flips else pixels
        return pixels, label

    def _read(self, index: int) -> tuple[Any, Any]:
        # timm's own __getitem__ goes on with the next image when one is damaged
        reader = getattr(self.base, "reader", None)
        if reader is not None:
            file, target = reader[index]
        elif hasattr(self.base, "loader"):  # torchvision's folders, whose loader takes 8 bits
            path, target = self.base.samples[index]
            file = open(path, "rb")  # noqa: SIM115  # closed below
        else:
            image, target = self.base[index]
            return in_mode(image, self.mode), target
        with file:
            return read_image(file, self.mode), target

    def name(self, index: int) -> str:
        """An image's file; of a data set that has none its number."""
        try:
            return str(self.base.filename(index, absolute=True))
        except Exception:  # torchvision's data sets have no files to name
            return f"number {index} of {self.place}"

    def _damaged(self, index: int, error: Exception) -> Damaged:
        name = self.name(index)
        image = f"{name}: {first_line(error)}"
        return Damaged(
            f"expected images that can be decoded, got {image}; repair or remove it", image
        )


class Stream(IterableDataset[tuple[Tensor, int]]):
    """A data set without random access: timm's readers of `wds/…`, `hfids/…` and `tfds/…`.

    The reader shuffles shards and samples; transforms are seeded here, image by image.

    Args:
        base: timm's `IterableImageDataset`, without a transform.
        transform: PIL image to uint8 tensor.
        preprocessing: channels, mean and standard deviation.
        place: the data set's name for messages.
        kind: prefix of the data set's name: `wds`, `hfids` or `tfds`.
        seed: first part of the key of every augmentation.
    """

    def __init__(
        self,
        base: Any,
        transform: Callable[[Any], Tensor],
        preprocessing: Preprocessing,
        place: str,
        kind: str,
        seed: int = 0,
    ) -> None:
        self.base, self.transform, self.preprocessing = base, transform, preprocessing
        self.place, self.kind, self.seed = place, kind, seed
        self.mode = image_mode(preprocessing)
        self.epoch, self.rank, self.training = 0, 0, False
        self.n_images = int(base.reader.num_samples or 0)
        """Images in the split over all processes, 0 where nobody has counted them."""
        self.split = base.reader.split_info if kind == "wds" else None
        """timm's list of the shards and, where known, of their lengths."""

    def __len__(self) -> int:
        """Images that the readers of this process say they give in a pass."""
        return len(self.base)

    def set_epoch(self, epoch: int) -> None:
        """Says which order the next pass has."""
        self.epoch = epoch
        self.base.set_epoch(epoch)

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        reader = self.base.reader
        if worker is None:
            # left from an earlier pass: its shuffle goes on where that ended
            reader.ds, reader.worker_seed = None, self.seed + self.epoch
        part = (self.rank, 0 if worker is None else worker.id)
        try:
            for position, (image, target) in enumerate(reader):
                if self.training:
                    seed_all(self.seed, self.epoch, *part, position)
                yield self.transform(in_mode(image, self.mode)), int(target)
        except Exception as error:  # whatever readers and file systems raise
            yield Damaged(
                f"expected a stream that can be read, got {self.place}: {first_line(error)}"
            )


class Loader(ABC):
    """Normalized batches on a device, as images and labels: what every loader is.

    Images are (batch, channels, height, width) float32, or uint8 where the feed says so; labels
    (batch,) int64. With several processes each gets its own part, see `order.Deal`.

    Args:
        dataset: what `data.open_dataset` gave.
        batch_size: images in every batch.
        feed: where to, and how.
    """

    why: str
    """How images are read and why, in one sentence."""

    def __init__(
        self,
        dataset: Images | Stream,
        batch_size: int,
        feed: Feed,
    ) -> None:
        self.dataset, self.n_classes, device = dataset, feed.n_classes, torch.device(feed.device)
        self.batch_size, self.device, self._is_normalizing = batch_size, device, feed.normalized
        is_turned = feed.channels_last or not feed.normalized
        self._format = torch.channels_last if is_turned else torch.contiguous_format
        size = dataset.preprocessing.input_size
        # as large as an image: broadcasting three numbers along the last axis is slow
        mean = 255 * torch.tensor(dataset.preprocessing.mean, device=device).view(-1, 1, 1)
        scale = 1 / (255 * torch.tensor(dataset.preprocessing.std, device=device).view(-1, 1, 1))
        self._mean, self._scale = (
            x.expand(size)[None].contiguous(memory_format=self._format) for x in (mean, scale)
        )

    @abstractmethod
    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Makes the next pass be `epoch`'s, from batch `start` on."""

    @abstractmethod
    def __len__(self) -> int:
        """Batches of this process in a whole pass."""

    @abstractmethod
    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """One pass."""

    @abstractmethod
    def order(self, epoch: int, start: int = 0) -> Iterator[Indices]:
        """Which images an epoch's batches show, each (batch_size,), from batch `start` on.

        Of a training split with random access; a stream and a pass to evaluate have none.
        """

    @abstractmethod
    def close(self) -> None:
        """Ends the worker processes; the next pass starts new ones."""

    @property
    def n_images(self) -> int:
        """Images in the data set, over all processes; 0 where nobody has counted them."""
        return self.dataset.n_images if isinstance(self.dataset, Stream) else len(self.dataset)

    def normalize(self, images: Tensor) -> Tensor:
        """From uint8 images on the device to what the network reads."""
        if not self._is_normalizing:
            return images.contiguous(memory_format=self._format)
        return (
            images.to(torch.float32, memory_format=self._format).sub_(self._mean).mul_(self._scale)
        )

    def check_labels(self, labels: Tensor) -> None:
        """Whether every label has an output.

        Raises:
            DataError: one has none.
        """
        lowest, highest = int(labels.min()), int(labels.max())
        if lowest < 0:
            raise DataError("expected a label for every image, got images without one")
        if self.n_classes is not None and highest >= self.n_classes:
            raise DataError(
                f"expected labels below the network's {self.n_classes} outputs, got {highest}: "
                "another data set, or another `num_classes=`"
            )
