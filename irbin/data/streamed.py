"""Batches decoded by worker processes as they are needed, through torch's `DataLoader`."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import torch
from timm.data.loader import fast_collate
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, Subset

from irbin.data.batches import Damaged, Images, Loader, Stream
from irbin.data.images import Transform
from irbin.data.order import IN_ORDER, Deal, Feed, Indices, check_step, make_deal
from irbin.data.sending import moved
from irbin.data.shards import share_stream
from irbin.data.workers import batches_of, workers_of
from irbin.errors import DataError
from irbin.messages import counted
from irbin.records.options import DataOptions

_log = logging.getLogger("irbin")

_N_PROBES = 16
"""Images looked at to see whether all have one size."""


class UnevenImagesError(DataError):
    """Images that should have one size have several."""


class _Uneven:
    """A message instead of a batch, as `Damaged` is one instead of an image."""


def _collate(batch: list[Any]) -> Any:
    for sample in batch:
        if isinstance(sample, Damaged):
            return sample
    if len({image.shape for image, _ in batch}) > 1:
        return _Uneven()
    return fast_collate(batch)


class _EpochSampler(Sampler[list[Any]]):
    """Batches of (epoch, index) as a deal has them, without the first `start` ones."""

    def __init__(self, deal: Deal) -> None:
        self.deal = deal
        self.epoch, self.start = 0, 0

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for indices in self.deal.batches(self.epoch, self.start):
            yield [(self.epoch, index) for index in indices.tolist()]


class StreamedLoader(Loader):
    """A loader whose workers read, decode and augment image by image.

    Args:
        dataset: what `data.open_dataset` gave.
        options: batch size and workers.
        feed: in training a single small batch stays where one process trains alone.

    Raises:
        UsageError: too few images for one global step, or too few shards.
    """

    def __init__(
        self,
        dataset: Images | Stream,
        options: DataOptions,
        feed: Feed = IN_ORDER,
    ) -> None:
        training, accumulation = feed.training, feed.accumulation
        rank, world_size = feed.rank, feed.world_size
        self._seed, self._skip, self._training = feed.seed, 0, training
        self._generator = torch.Generator()  # torch's loader draws one number a pass from it
        self._sampler: _EpochSampler | None = None
        self._expected = 0
        workers, batch_size = options.workers, options.n_batch
        batching: dict[str, Any] = {}
        if isinstance(dataset, Stream):
            workers, self._expected = share_stream(dataset, options, training, rank, world_size)
            batching = {"batch_size": batch_size, "drop_last": training}
            n_batches = len(dataset) // batch_size if training else -(-len(dataset) // batch_size)
            if training:
                check_step(n_batches * batch_size, batch_size, 1, accumulation)
                n_batches = n_batches // accumulation * accumulation
        elif training:
            deal = make_deal(len(dataset), batch_size, feed.seed, rank, world_size, accumulation)
            self._sampler = _EpochSampler(deal)
            batching = {"batch_sampler": self._sampler}
            n_batches, batch_size = len(deal), deal.batch_size
        else:
            batch_size = min(batch_size, len(dataset))
            mine = range(rank, len(dataset), world_size)
            batching = {"batch_size": batch_size, "sampler": mine}
            n_batches = -(-len(mine) // batch_size)
        self._n_batches = n_batches
        super().__init__(dataset, batch_size, feed)
        self.why = f"images: streamed by {workers_in_words(workers)}"
        self._loader: DataLoader[Any] = DataLoader(
            dataset,
            collate_fn=_collate,
            pin_memory=self.device.type == "cuda",
            generator=self._generator,
            # a stream's shuffle begins anew with its workers, so that an epoch can be met again
            persistent_workers=workers > 0 and not (training and isinstance(dataset, Stream)),
            **workers_of(workers),
            **batching,
        )

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Makes the next pass be `epoch`'s, from batch `start` on; a stream skips what it read."""
        self._generator.manual_seed(self._seed + epoch)
        if self._sampler is not None:
            self._sampler.epoch, self._sampler.start = epoch, start
            return
        self._skip = start
        if isinstance(self.dataset, Stream):
            self.dataset.set_epoch(epoch)

    def __len__(self) -> int:
        """Batches of this process in a whole pass; of a stream to evaluate, about."""
        return self._n_batches

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in self.raw():
            self.check_labels(labels)
            yield self.normalize(moved(images, self.device)), moved(labels, self.device)

    def order(self, epoch: int, start: int = 0) -> Iterator[Indices]:
        """Which images an epoch's batches show; nothing of a stream or a pass to evaluate."""
        return iter(()) if self._sampler is None else self._sampler.deal.batches(epoch, start)

    def raw(self) -> Iterator[tuple[Tensor, Tensor]]:
        """One pass of uint8 images (batch, channels, height, width) and labels as workers give it.

        Raises:
            DataError: an image that cannot be read, or a stream that lost some.
            LostWorkerError: a worker ended.
        """
        stop = self._n_batches if self._training and self._sampler is None else None
        n_done = 0
        try:
            for batch in itertools.islice(batches_of(self._loader), self._skip, stop):
                if isinstance(batch, Damaged):
                    self.close()
                    raise damaged_error(self.dataset, batch, self._loader.num_workers)
                if isinstance(batch, _Uneven):
                    raise UnevenImagesError("expected images of one size")
                yield batch
                n_done += len(batch[1])
            if self._expected and not self._skip and n_done != self._expected:
                raise DataError(
                    f"expected {counted(self._expected, 'image')} in {self.dataset.place}, got "
                    f"{n_done}: some "
                    "cannot be decoded, or their number is wrong"
                )
        except BaseException:  # a pass that is left early as well
            self.close()
            raise

    def close(self) -> None:
        """Ends the worker processes; the next pass starts new ones."""
        # torch has no public way; left to the garbage collector it can take 5 seconds a worker
        iterator = self._loader._iterator
        if iterator is not None:
            self._loader._iterator = None
            with suppress(RuntimeError):  # one that ended by itself is what was wanted
                iterator._shutdown_workers()  # type: ignore[attr-defined]  # of the multi-process kind


def common_size(dataset: Images, transform: Transform, n_workers: int) -> tuple[int, ...] | None:
    """Shape of a few images over a whole data set; None if they differ.

    Raises:
        DataError: an image that cannot be decoded.
    """
    plain = Images(dataset.base, transform, dataset.preprocessing, 0, dataset.place)
    few = Subset(plain, range(0, len(dataset), max(1, len(dataset) // _N_PROBES)))
    # not in this process: an archive opened here would be shared by all workers to come
    loader: DataLoader[Any] = DataLoader(
        few, len(few), collate_fn=_collate, **workers_of(min(1, n_workers))
    )
    (batch,) = batches_of(loader)
    if isinstance(batch, Damaged):
        raise damaged_error(dataset, batch, n_workers)
    return None if isinstance(batch, _Uneven) else tuple(batch[0].shape[1:])


class _Looked(Dataset[str]):
    """What is wrong with each image of a data set, see `Images.look`."""

    def __init__(self, dataset: Images) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> str:
        return self.dataset.look(index)


def damaged_error(dataset: Images | Stream, first: Damaged, workers: int) -> DataError:
    """The error for an image that cannot be decoded, with the others that cannot be either.

    Decodes the data set once, up to `_MOST_LOOKED_AT` images, so that all can be repaired at once.

    Args:
        dataset: what it is of.
        first: the first one.
        workers: processes that may decode.
    """
    if not first.image or isinstance(dataset, Stream):
        return DataError(first.message)
    few = range(min(len(dataset), _MOST_LOOKED_AT))
    if len(few) > _MANY:
        _log.warning("an image cannot be decoded (%s); looking for others", first.image)
    loader: DataLoader[Any] = DataLoader(
        Subset(_Looked(dataset), few),
        batch_size=64,
        collate_fn=list,
        **workers_of(workers),
    )
    all_found = [image for batch in batches_of(loader) for image in batch if image]
    if first.image not in all_found:
        all_found.append(first.image)
    if len(all_found) == 1:
        return DataError(first.message)
    listed = "; ".join(all_found[:_N_NAMED])
    rest = f"; and {len(all_found) - _N_NAMED} more" if len(all_found) > _N_NAMED else ""
    return DataError(
        f"expected images that can be decoded, {len(all_found):,} of {len(few):,} in "
        f"{dataset.place} cannot: {listed}{rest}; repair or remove them"
    )


_MOST_LOOKED_AT = 100_000
"""Images decoded to find all that cannot be; of larger data sets the first ones."""
_MANY = 2_000
"""Images whose decoding takes long enough to say so."""
_N_NAMED = 8
"""Images that a message names before it counts the rest."""


def workers_in_words(n: int) -> str:
    """A number of workers in words."""
    return {0: "this process", 1: "1 worker"}.get(n, f"{n} workers")
