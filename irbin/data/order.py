"""Which images a process sees, and when: a global order dealt out, and draws for each image.

An epoch's order follows from (seed, epoch), an image's draws from (seed, epoch, index); neither
knows how many processes, workers or micro-batches share the work.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from irbin.errors import UsageError
from irbin.messages import counted

_COIN_EPOCH = 2**32 - 1
"""In the place of the epoch, for what is drawn once a run."""

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Deal:
    """The batches of one process.

    Consecutive batches of the epoch's order go round the processes: number i × `world_size` +
    `rank` is the process's i-th. A global step is `accumulation` rounds, so it shows the same
    images whether a larger batch, more processes or more accumulated batches make it up.
    """

    n_images: int
    """Images in the data set."""
    batch_size: int
    """Images in every batch."""
    seed: int
    """Decides the order."""
    rank: int = 0
    """Number of this process."""
    world_size: int = 1
    """Processes that share an epoch."""
    accumulation: int = 1
    """Batches of one process in a global step."""

    def __len__(self) -> int:
        """Batches of this process in an epoch; an incomplete global step is left out."""
        return (
            self.n_images
            // (self.batch_size * self.world_size * self.accumulation)
            * (self.accumulation)
        )

    def batches(self, epoch: int, start: int = 0) -> Iterator[Indices]:
        """The indices of an epoch's batches, each (batch_size,), from batch `start` on."""
        order = np.random.default_rng([self.seed, epoch]).permutation(self.n_images)
        for step in range(start, len(self)):
            first = (step * self.world_size + self.rank) * self.batch_size
            yield order[first : first + self.batch_size]


@dataclass(frozen=True)
class Feed:
    """Which images a process gets, in what order, and where to. Made by callers, read by loaders.

    Raises:
        UsageError: a rank that is none.
    """

    training: bool = False
    """Shuffled, and without a last incomplete step."""
    seed: int = 0
    """Decides the order of training images."""
    device: str | torch.device = "cpu"
    """Where batches go."""
    n_classes: int | None = None
    """Labels must lie below it; None checks only that there are labels."""
    channels_last: bool = False
    """Memory format of the images."""
    rank: int = 0
    """Number of this process, which evaluates images rank, rank + world_size …"""
    world_size: int = 1
    """Processes that share the images."""
    accumulation: int = 1
    """Batches in a global step of one process."""
    normalized: bool = True
    """Images are float32, as a network reads them; else bytes, channels innermost in memory."""

    def __post_init__(self) -> None:
        check_rank(self.rank, self.world_size)


def make_deal(
    n_images: int, batch_size: int, seed: int, rank: int, world_size: int, accumulation: int
) -> Deal:
    """How training images are dealt out; one process alone may take a data set as its only batch.

    Raises:
        UsageError: too few images for one global step, or a rank that is none.
    """
    check_rank(rank, world_size)
    if world_size == accumulation == 1:
        batch_size = min(batch_size, n_images)
    check_step(n_images, batch_size, world_size, accumulation)
    return Deal(n_images, batch_size, seed, rank, world_size, accumulation)


def check_step(n_images: int, batch_size: int, world_size: int, accumulation: int) -> None:
    """Whether the images suffice for one global step.

    Raises:
        UsageError: they do not.
    """
    needed = batch_size * world_size * accumulation
    if n_images < needed:
        raise UsageError(
            f"`batch_size`: expected at most {counted(n_images, 'image')} in a step, got {needed}: "
            f"{batch_size} a batch × {counted(world_size, 'process')} × {accumulation} accumulated"
        )


def check_rank(rank: int, world_size: int) -> None:
    """Whether a rank belongs to a world.

    Raises:
        UsageError: it does not.
    """
    if not 0 <= rank < world_size:
        raise UsageError(f"`rank`: expected 0 to {world_size - 1}, got {rank}")


IN_ORDER = Feed()
"""Every image once, for one process on the CPU."""


def alternating_flips(seed: int, epoch: int, indices: Indices) -> npt.NDArray[np.bool_]:
    """Which images are flipped where every second epoch flips: (coin(index) + epoch) mod 2.

    Each image is seen both ways in any two epochs, while half of each epoch is flipped: less is
    left to chance than by a coin an epoch. The idea is airbench's (Jordan, arXiv 2404.00498).

    Args:
        seed: decides the coins.
        epoch: counts from 0.
        indices: (images,).

    Returns:
        (images,).
    """
    coins = uniforms(seed, _COIN_EPOCH, indices, 1)[:, 0] < 0.5
    flips: npt.NDArray[np.bool_] = (coins + epoch) % 2 == 1
    return flips


def uniforms(seed: int, epoch: int, indices: Indices, n_draws: int) -> npt.NDArray[np.float64]:
    """Numbers in [0, 1), (images, n_draws): a row follows from seed, epoch and its index alone.

    A counter is mixed instead of a generator advanced, so a batch costs what it shows and not what
    the data set holds.
    """
    # splitmix64, as in `seed_all`
    key = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0]
    counter = n_draws * indices[:, None] + np.arange(1, n_draws + 1)  # (images, n_draws)
    state: npt.NDArray[Any] = key + counter.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state = state ^ (state >> np.uint64(31))
    draws: npt.NDArray[np.float64] = (state >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return draws
