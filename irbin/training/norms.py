"""Batch norm's statistics at the end of an epoch, and at that of a run."""

from __future__ import annotations

import math
from collections.abc import Generator
from itertools import islice

from timm.utils import distribute_bn
from torch import nn

from irbin.rewriting.calibrate import reestimate_batch_norm
from irbin.training.run import Run


def settle_norms(run: Run) -> None:
    """At an epoch's end: every process gets the same running statistics, as `dist_bn` says."""
    if run.group.size == 1 or run.recipe.dist_bn == "off":
        return
    for module in (run.module, run.ema.module if run.ema is not None else nn.Identity()):
        distribute_bn(module, run.group.size, run.recipe.dist_bn == "reduce")


def calibrate(run: Run) -> None:
    """Measures batch norm anew on `calibrate_images`, augmented as those of training.

    They are those of an epoch after the last one, each process's share; every process gets the
    mean over all. Nothing happens where the recipe wants none.
    """
    n_images, n_each = run.recipe.calibrate_images, run.train.batch_size * run.group.size
    if n_images == 0:
        return
    for module in dict.fromkeys((run.module, run.averaged.module)):  # one order everywhere
        run.train.set_epoch(run.n_epochs)
        batches = iter(run.train)
        n_batches = min(math.ceil(n_images / n_each), len(run.train))
        reestimate_batch_norm(module, (images for images, _ in islice(batches, n_batches)))
        if isinstance(batches, Generator):
            batches.close()
        if run.group.size > 1:
            distribute_bn(module, run.group.size, reduce=True)
