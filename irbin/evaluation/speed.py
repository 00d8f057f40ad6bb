"""How fast a network alone is while it is evaluated: without decoding and waiting for images."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

TIMED_ON_DEVICES = 8
"""Batches timed where timing means waiting: a CPU goes on while an accelerator computes."""


class Speed:
    """Times a network's calls; the first only where there is no other, since it prepares.

    Args:
        device: where the network computes.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._calls: list[tuple[int, float]] = []

    @contextmanager
    def call(self, n_images: int) -> Iterator[None]:
        """Within, the network is called on so many images."""
        waits = self._device.type != "cpu"
        if waits and len(self._calls) > TIMED_ON_DEVICES:
            yield
            return
        self._wait(waits)
        start = time.perf_counter()
        yield
        self._wait(waits)
        self._calls.append((n_images, time.perf_counter() - start))

    @property
    def images_per_second(self) -> float:
        """Images over seconds of the calls that were timed; 0 where none was."""
        counted = self._calls[1:] or self._calls
        seconds = sum(seconds for _, seconds in counted)
        return sum(n for n, _ in counted) / max(seconds, 1e-9) if counted else 0.0

    def _wait(self, waits: bool) -> None:
        if waits:
            torch.accelerator.synchronize(self._device)
