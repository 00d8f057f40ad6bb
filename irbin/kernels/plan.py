"""Kernels one after the other, run by one call of compiled code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from irbin.kernels import native
from irbin.kernels.kernel import Kernel, address


class Place(NamedTuple):
    """Where an array begins: so many bytes behind a base."""

    base: int
    """Number of the base; −1 if there is no array."""
    offset: int
    """In bytes."""


NOTHING = Place(-1, 0)


@dataclass(frozen=True, eq=False)
class PlannedCall:
    """One kernel of a plan and where its arrays are; nobody checks that. Made by `runtime`."""

    kernel: Kernel
    """What computes."""
    n: int
    """Images, or rows."""
    x: Place
    """What it reads."""
    others: tuple[Place, ...]
    """Residuals, in the kernel's order."""
    y: Place
    """Floats that it writes."""
    y_bits: Place
    """Bits that it writes."""


class Plan:
    """Kernels with the places of their arrays; one caller at a time.

    Args:
        calls: in order.
        n_bases: how many bases their places count from.
        idle: every call returns at once, which shows what calling takes.
    """

    def __init__(self, calls: Sequence[PlannedCall], n_bases: int, *, idle: bool = False) -> None:
        self._size = len(calls)
        made = native.module()
        planned = [
            (
                made.Idle(len(call.others)) if idle else call.kernel._ready(),
                call.n,
                call.x,
                call.others,
                call.y,
                call.y_bits,
            )
            for call in calls
        ]
        self._native: Any = made.plan(planned, n_bases)
        self._seconds = np.zeros(1)

    def run(self, bases: Sequence[int], planes: Sequence[int], n_threads: int) -> None:
        """Runs all of it.

        Args:
            bases: addresses, by number.
            planes: numbers of those bases that hold (batch, channels, height, width), for readers
                that take either.
            n_threads: at most so many.
        """
        self._native.run(bases, planes, 0, self._size, n_threads, None)

    def run_one(
        self, number: int, bases: Sequence[int], planes: Sequence[int], n_threads: int
    ) -> float:
        """Runs one call alone; its seconds."""
        self._native.run(bases, planes, number, number + 1, n_threads, self._seconds)
        return float(self._seconds[0])

    @property
    def reached(self) -> int:
        """Which call the last run was at when it ended: that which failed, if one did."""
        return int(self._native.reached)


class Seat(NamedTuple):
    """A plan and the memory that is its base 0, for one thread at a time."""

    kind: int
    """Plans of a kind do the same, for as many images."""
    plan: Plan
    """What is run."""
    memory: int
    """Address of its base 0."""


class Part(NamedTuple):
    """A part of a batch, for any plan of its kind."""

    kind: int
    """Of the plans."""
    bases: Sequence[int]
    """Addresses, by number; what stands for base 0 is not looked at."""
    planes: Sequence[int]
    """As in `Plan.run`."""
    results: Sequence[int]
    """Addresses that the results are copied to."""


def run_parts(
    seats: Sequence[Seat],
    parts: Sequence[Part],
    results: Sequence[Sequence[tuple[int, int]]],
    n_threads: int,
) -> None:
    """Runs parts of a batch side by side, each from its first kernel to the last on one thread.

    Args:
        seats: of every kind as many as threads, or as there are parts of that kind.
        parts: in the order in which threads take them.
        results: for each kind, offset in base 0 and bytes of what is copied out.
        n_threads: at most so many.
    """
    taken = [(seat.kind, seat.plan._native, seat.memory) for seat in seats]
    native.module().run_parts(taken, parts, results, n_threads)


def block(n_bytes: int, alignment: int) -> NDArray[np.uint8]:
    """Memory that begins at a multiple of `alignment`."""
    memory = np.empty(n_bytes + alignment, np.uint8)
    start = -address(memory) % alignment
    return memory[start : start + n_bytes]
