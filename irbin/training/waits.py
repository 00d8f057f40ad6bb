"""The batches of an epoch, and how long the steps wait for them."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator

from torch import Tensor

from irbin.data import Loader
from irbin.errors import DataError


class Waits(Iterator[tuple[Tensor, Tensor]]):
    """Batches of a loader, one after the other, and how long the steps have waited for them.

    Args:
        loader: made ready by `set_epoch`.

    Attributes:
        seconds: waited so far; whoever reads it may set it back.
    """

    def __init__(self, loader: Loader) -> None:
        self.seconds = 0.0
        self._place, self._batches = loader.dataset.place, iter(loader)

    def __next__(self) -> tuple[Tensor, Tensor]:
        """The next batch.

        Raises:
            DataError: there is none; a stream was promised to be longer.
            LostWorkerError: a worker ended.
        """
        begin = time.perf_counter()
        batch = next(self._batches, None)
        self.seconds += time.perf_counter() - begin
        if batch is None:
            raise DataError(
                f"expected more images in {self._place}, which ended in the middle of an epoch: "
                "`train_num_samples=` says how many there are"
            )
        return batch

    def close(self) -> None:
        """Ends the pass, and the worker processes with it."""
        if isinstance(self._batches, Generator):
            self._batches.close()
