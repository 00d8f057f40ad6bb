"""Loss and top-1 of a float network with some of its layers binary, on images held in memory.

Every network sees the same images, so two losses can be compared image by image; what they differ
by has a far smaller error than either.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor

from irbin.analysis.choices import Choices
from irbin.data import Images, Stream, train_loader
from irbin.data.order import Feed
from irbin.errors import TrainingError
from irbin.evaluation.modes import evaluating, exact_float32
from irbin.records.options import DataOptions
from irbin.rewriting.calibrate import reestimate_batch_norm
from irbin.rewriting.network import Network
from irbin.rewriting.rewrite import rewrite

Batches = Sequence[tuple[Tensor, Tensor]]
"""Images (batch, channels, height, width) and labels (batch,)."""

SEED = 0
"""Which images are drawn."""


@dataclass(frozen=True, eq=False)
class Measured:
    """What one network did on the sample. Made by `LossMeter`."""

    losses: Tensor
    """Cross-entropy of every image, nats; float64 (n_images,)."""
    hits: Tensor
    """Whether its first answer was right; bool (n_images,)."""

    @property
    def loss(self) -> float:
        """Mean; nan where any image's is not finite."""
        mean = float(self.losses.mean())
        return mean if math.isfinite(mean) else math.nan

    @property
    def top1(self) -> float:
        """Per cent; an image whose loss is not finite counts as wrong."""
        return 100 * float(self.hits.double().mean())

    def increase(self, base: Measured) -> tuple[float, float]:
        """Mean loss above `base`'s, and its standard error over images; nan if not finite."""
        more = self.losses - base.losses
        if not bool(more.isfinite().all()):
            return math.nan, math.nan
        error = float(more.std()) / math.sqrt(len(more)) if len(more) > 1 else math.nan
        return float(more.mean()), error


def draw(
    dataset: Images | Stream,
    options: DataOptions,
    n_images: int,
    *,
    n_classes: int | None = None,
    device: str = "cpu",
) -> Batches:
    """The same images whenever asked: drawn at random, or the first of a stream.

    Args:
        dataset: what `open_dataset` gave, without an augmentation.
        options: batch size and workers.
        n_images: wanted; a few fewer where they do not make equal batches.
        n_classes: labels must lie below it.
        device: where they are held.
    """
    n_images = min(n_images, len(dataset) or n_images)
    n_batches = math.ceil(n_images / options.n_batch)
    size = n_images // n_batches
    even = DataOptions(batch_size=size, workers=options.workers)
    loader = train_loader(dataset, even, Feed(seed=SEED, device=device, n_classes=n_classes))
    return list(islice(loader, n_batches))


class LossMeter:
    """Measures every choice of groups once, however often it is asked for.

    Args:
        network: a float network; left as it is.
        choices: what may be binary.
        sample: images to measure on.
        calibration: images to re-estimate batch norm on, (batch, channels, height, width).
    """

    def __init__(
        self, network: Network, choices: Choices, sample: Batches, calibration: Sequence[Tensor]
    ) -> None:
        self.network, self.choices = network, choices
        self.sample, self.calibration = sample, calibration
        self.known: dict[frozenset[str], Measured] = {}

    def __call__(self, names: Collection[str]) -> Measured:
        """With these groups binary and everything else float; none measures the float network.

        Its batch norm, too, is re-estimated, so that a difference is the binarization's alone.

        Raises:
            TrainingError: the float network's own statistics are not finite.
        """
        key = frozenset(names)
        if key not in self.known:
            self.known[key] = self._measure(key)
        return self.known[key]

    def _measure(self, names: frozenset[str]) -> Measured:
        if names:  # checked once as a whole, see `rewrite`
            module = rewrite(self.network, self.choices.plan(names), check=False).module
        else:
            module = copy.deepcopy(self.network.module)
        try:
            reestimate_batch_norm(module, self.calibration)
        except TrainingError:
            if not names:
                raise
            n_images = sum(len(labels) for _, labels in self.sample)
            return Measured(torch.full((n_images,), math.nan).double(), torch.zeros(n_images) > 0)
        losses, hits = [], []
        with evaluating(module), torch.inference_mode(), exact_float32():
            for images, labels in self.sample:
                logits = module(images).float()
                loss = F.cross_entropy(logits, labels, reduction="none")
                losses.append(loss.cpu().double())
                hits.append(((logits.argmax(1) == labels) & loss.isfinite()).cpu())
        return Measured(torch.cat(losses), torch.cat(hits))
