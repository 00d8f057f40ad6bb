"""Images in an order that can be reached again: one image with its seed, an epoch's order, batches.

What is random about an image depends on (seed, epoch, index) alone and an epoch's order on
(seed, epoch), so a resumed run meets the same batches with any number of workers. timm's loaders
draw from streams that depend on how far each worker has come, and its data set replaces a damaged
image by the next one.
"""

from __future__ import annotations

import itertools
import random
import signal
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data.loader import fast_collate
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler

from irbin.data.images import image_mode
from irbin.errors import DataError
from irbin.records import DataOptions, Preprocessing


def seed_all(*key: int, device: torch.device | None = None) -> None:
    """Seeds torch, NumPy and Python from a few whole numbers; equal keys give equal streams."""
    state = 0
    for part in key:  # splitmix64, so that neighbouring keys share nothing
        state = (state + part + 1) * 0x9E3779B97F4A7C15 % 2**64
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        state = (state ^ state >> 27) * 0x94D049BB133111EB % 2**64
        state ^= state >> 31
    # torch.manual_seed visits every back end and takes a hundred times as long
    torch.default_generator.manual_seed(state >> 32)
    if device is not None and device.type == "cuda":
        torch.cuda.manual_seed(state >> 32)
    random.seed(state)
    np.random.seed(state >> 32)  # timm's augmentations draw from the global one


class _Damaged:
    """A message instead of an image: exceptions lose their one line on the way out of a worker."""

    def __init__(self, message: str) -> None:
        self.message = message


class Images(Dataset[tuple[Tensor, int]]):
    """A data set with random access whose images become uint8 tensors (channels, height, width).

    Keys are an index, or (epoch, index) for training, where both seed the image's augmentation.

    Args:
        base: timm's `ImageDataset` or one of torchvision's, without a transform.
        transform: PIL image to uint8 tensor.
        preprocessing: channels, mean and standard deviation.
        seed: first part of the key of every augmentation.
        place: the data set's name for messages.
    """

    def __init__(
        self,
        base: Any,
        transform: Callable[[Any], Tensor],
        preprocessing: Preprocessing,
        seed: int,
        place: str,
    ) -> None:
        self.base, self.transform, self.preprocessing = base, transform, preprocessing
        self.mode = image_mode(preprocessing)
        self.seed, self.place = seed, place

    def __len__(self) -> int:
        return len(self.base)

    def __getitem__(self, key: int | tuple[int, int]) -> Any:
        epoch, index = key if isinstance(key, tuple) else (None, key)
        try:
            image, target = self._read(index)
        except (
            Exception
        ) as error:  # whatever Pillow's plug-ins raise: OSError, SyntaxError, struct.error …
            return self._damaged(index, error)
        if epoch is not None:
            seed_all(self.seed, epoch, index)
        return self.transform(image), -1 if target is None else int(target)

    def _read(self, index: int) -> tuple[Any, Any]:
        # timm's own __getitem__ goes on with the next image when one is damaged
        reader = getattr(self.base, "reader", None)
        if reader is None:
            image, target = self.base[index]
            return image.convert(self.mode), target
        file, target = reader[index]
        with file, Image.open(file) as image:
            return image.convert(self.mode), target

    def _damaged(self, index: int, error: Exception) -> _Damaged:
        try:
            name = self.base.filename(index, absolute=True)
        except Exception:  # torchvision's data sets have no files to name
            name = f"number {index} of {self.place}"
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return _Damaged(
            f"expected images that can be decoded, got {name}: {reason}; repair or remove it"
        )


class Stream(IterableDataset[tuple[Tensor, int]]):
    """A data set without random access: timm's `IterableImageDataset`, which shuffles and decodes.

    Args:
        base: timm's data set; its transform is set, in place.
        transform: PIL image to uint8 tensor.
        preprocessing: channels, mean and standard deviation.
        place: the data set's name for messages.
    """

    def __init__(
        self,
        base: Any,
        transform: Callable[[Any], Tensor],
        preprocessing: Preprocessing,
        place: str,
    ) -> None:
        base.transform = transform
        self.base, self.preprocessing, self.place = base, preprocessing, place

    def __len__(self) -> int:
        return len(self.base)

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        yield from self.base


def _collate(batch: list[Any]) -> Any:
    for sample in batch:
        if isinstance(sample, _Damaged):
            return sample
    return fast_collate(batch)


class _EpochSampler(Sampler[list[Any]]):
    """Batches of (epoch, index): permuted by (seed, epoch), without the first `start` ones."""

    def __init__(self, n_images: int, batch_size: int, seed: int) -> None:
        self.n_images, self.batch_size, self.seed = n_images, batch_size, seed
        self.epoch, self.start = 0, 0

    def __len__(self) -> int:
        return self.n_images // self.batch_size

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.n_images).tolist()
        for step in range(self.start, len(self)):
            indices = order[step * self.batch_size : (step + 1) * self.batch_size]
            yield [(self.epoch, index) for index in indices]


def _init_worker(_worker: int) -> None:
    # Ctrl-C goes to the whole process group; the trainer decides when its workers end
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class Loader:
    """Normalized batches on a device, as images and labels.

    Images are (batch, channels, height, width) float32, labels (batch,) int64.

    Args:
        dataset: what `data.open_dataset` gave.
        options: batch size and workers.
        training: shuffle, and drop a last incomplete batch (a single small batch stays).
        seed: decides the order of training images.
        device: where batches go.
        n_classes: labels must lie below it; None checks only that there are labels.
        channels_last: memory format of the images.
    """

    def __init__(
        self,
        dataset: Images | Stream,
        options: DataOptions,
        *,
        training: bool = False,
        seed: int = 0,
        device: str | torch.device = "cpu",
        n_classes: int | None = None,
        channels_last: bool = False,
    ) -> None:
        self.dataset, self.n_classes, self.device = dataset, n_classes, torch.device(device)
        self.batch_size = min(options.batch_size, len(dataset) or options.batch_size)
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        shape = (1, dataset.preprocessing.input_size[0], 1, 1)
        self._mean = 255 * torch.tensor(dataset.preprocessing.mean, device=device).view(shape)
        std = 255 * torch.tensor(dataset.preprocessing.std, device=device).view(shape)
        self._scale = 1 / std
        self._seed, self._skip = seed, 0
        self._generator = torch.Generator()  # torch's loader draws one number a pass from it
        self._sampler: _EpochSampler | None = None
        batching: dict[str, Any] = {"batch_size": self.batch_size}
        if training and isinstance(dataset, Images):
            self._sampler = _EpochSampler(len(dataset), self.batch_size, seed)
            batching = {"batch_sampler": self._sampler}
        elif training:
            batching["drop_last"] = True
        self._loader: DataLoader[Any] = DataLoader(
            dataset, num_workers=options.workers, collate_fn=_collate, worker_init_fn=_init_worker,
            pin_memory=self.device.type == "cuda", generator=self._generator,
            persistent_workers=options.workers > 0, **batching,
        )  # fmt: skip

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Makes the next pass be `epoch`'s, from batch `start` on."""
        self._generator.manual_seed(self._seed + epoch)
        if self._sampler is not None:
            self._sampler.epoch, self._sampler.start = epoch, start
        else:
            self._skip = start
            if isinstance(self.dataset, Stream):
                self.dataset.base.set_epoch(epoch)

    def __len__(self) -> int:
        """Batches in a whole pass."""
        return len(self._loader) if self._sampler is None else len(self._sampler)

    @property
    def n_images(self) -> int:
        """Images in the data set."""
        return len(self.dataset)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        try:
            for batch in itertools.islice(self._loader, self._skip, None):
                if isinstance(batch, _Damaged):
                    raise DataError(batch.message)
                images, labels = batch
                self._check_labels(labels)
                images = images.to(self.device, non_blocking=True)
                labels = labels.to(self.device, non_blocking=True)
                images = images.to(torch.float32, memory_format=self._format)
                yield images.sub_(self._mean).mul_(self._scale), labels
        except BaseException:  # a pass that is left early as well
            self.close()
            raise

    def close(self) -> None:
        """Ends the worker processes; the next pass starts new ones."""
        # torch has no public way; left to the garbage collector it can take 5 seconds a worker
        iterator = self._loader._iterator
        if iterator is not None:
            iterator._shutdown_workers()  # type: ignore[attr-defined]  # of the multi-process kind
            self._loader._iterator = None

    def _check_labels(self, labels: Tensor) -> None:
        lowest, highest = int(labels.min()), int(labels.max())
        if lowest < 0:
            raise DataError("expected a label for every image, got images without one")
        if self.n_classes is not None and highest >= self.n_classes:
            raise DataError(
                f"expected labels below the network's {self.n_classes} outputs, got {highest}: "
                "another data set, or another `--num-classes`"
            )
