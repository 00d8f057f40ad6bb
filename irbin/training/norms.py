"""Batch norm's statistics at the end of an epoch, and at that of a run."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator
from itertools import islice

from timm.utils import distribute_bn
from torch import Tensor, nn

from irbin.interrupt import Stop
from irbin.rewriting.calibrate import reestimate_batch_norm
from irbin.training.run import Run


def settle_norms(run: Run) -> None:
    """At an epoch's end: every process gets the same running statistics, as `dist_bn` says."""
    if run.group.size == 1 or run.recipe.dist_bn == "off":
        return
    for module in (run.module, run.ema.module if run.ema is not None else nn.Identity()):
        distribute_bn(module, run.group.size, run.recipe.dist_bn == "reduce")


def calibrate(run: Run, stop: Stop) -> None:
    """Measures batch norm anew on `calibrate_images`, augmented as those of training.

    They are those of an epoch after the last one, each process's share; every process gets the
    mean over all. Nothing happens where the recipe wants none. What does not come to its end
    leaves the statistics as they were.

    Args:
        run: whose network, and average of its weights.
        stop: looked at before every batch; with several processes, which would wait for this
            one's mean, at the end alone.
    """
    if run.recipe.calibrate_images == 0:
        return
    modules = tuple(dict.fromkeys((run.module, run.averaged.module)))  # one order everywhere
    before = [(buffer, buffer.clone()) for module in modules for buffer in module.buffers()]
    try:
        for module in modules:
            _calibrate(run, module, stop)
    except BaseException as error:
        for buffer, value in before:
            buffer.copy_(value)
        if run.group.size > 1 or not isinstance(error, KeyboardInterrupt):
            raise
        stop.request()


def _calibrate(run: Run, module: nn.Module, stop: Stop) -> None:
    run.train.set_epoch(run.n_epochs)
    batches = iter(run.train)
    n_each = run.train.batch_size * run.group.size
    n_batches = min(math.ceil(run.recipe.calibrate_images / n_each), len(run.train))
    try:
        reestimate_batch_norm(module, _images(islice(batches, n_batches), run, stop))
    finally:
        if isinstance(batches, Generator):
            batches.close()
    if run.group.size > 1:
        distribute_bn(module, run.group.size, reduce=True)


def _images(batches: Iterable[tuple[Tensor, Tensor]], run: Run, stop: Stop) -> Iterator[Tensor]:
    """Of each batch.

    Raises:
        KeyboardInterrupt: somebody wants to stop, and no other process would wait.
    """
    for images, _ in batches:
        if stop() and run.group.size == 1:
            raise KeyboardInterrupt
        yield images
