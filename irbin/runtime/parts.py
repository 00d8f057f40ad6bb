"""Schedules by batch size, and large batches that several threads share, each with its own parts.

Threads then meet once a batch and not once a layer, and each has its part's results in the cache of
its own core.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any
from weakref import WeakMethod

from irbin.errors import ArtifactError
from irbin.kernels.plan import Part, Seat, run_parts
from irbin.program.program import Program
from irbin.runtime.arrays import Array, dtype_name, longer, start
from irbin.runtime.calls import failure
from irbin.runtime.given import WHOLE_BATCH
from irbin.runtime.schedule import Schedule
from irbin.runtime.segments import NativeSegment
from irbin.runtime.threads import Forgetting
from irbin.runtime.work import Work

PLANNED_SIZES = 4
"""Batch sizes whose schedules are kept."""
LEAST_BUSY = 0.85
"""Of the threads' time: with less, several threads on each layer are as fast."""


class Schedules:
    """A model's schedules that nobody uses, by batch size; for callers from several threads."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._waiting: OrderedDict[tuple[int, str], list[Schedule]] = OrderedDict()
        self._lock = threading.Lock()
        self._forgetting = Forgetting(WeakMethod(self._begin))

    def _begin(self) -> None:
        """In a forked child: another thread of the parent may have held the lock."""
        self._lock = threading.Lock()
        self._waiting.clear()

    def take(self, work: Work, images: Any) -> Schedule:
        """One for so many images of that type.

        Raises:
            ArtifactError: the program's types do not hold for so many, or there is no memory.
        """
        key = (len(images), dtype_name(images))
        with self._lock:
            waiting = self._waiting.get(key)
            if waiting:
                return waiting.pop()
        if waiting is None:
            self._program.check_batch(len(images))
        return Schedule(work, len(images))

    def give_back(self, images: Any, schedule: Schedule) -> None:
        """For whoever has such images next."""
        key = (len(images), dtype_name(images))
        with self._lock:
            self._waiting.setdefault(key, []).append(schedule)
            self._waiting.move_to_end(key)
            while len(self._waiting) > PLANNED_SIZES:
                self._waiting.popitem(last=False)


def side_by_side(
    schedules: Schedules, work: Work, images: Any, most: int, n_threads: int
) -> list[Array] | None:
    """The results of a batch, in memory of their own, or None where threads share layers better.

    Args:
        schedules: of the model.
        work: what is done with these images; torch has no part in it.
        images: an array.
        most: images in a part.
        n_threads: at most so many.

    Raises:
        ArtifactError: an item fails; it is named.
    """
    sizes = sizes_of_parts(len(images), most, n_threads)
    if not sizes:
        return None
    ends = [*accumulate(sizes)]
    parts = [images[end - n : end] for n, end in zip(sizes, ends, strict=True)]
    taken: dict[int, list[Schedule]] = {}
    try:
        for part in parts:
            of_size = taken.setdefault(len(part), [])
            if len(of_size) < n_threads:
                of_size.append(schedules.take(work, part))
            if of_size[0].segment is None:
                return None
        return _run(taken, parts, n_threads)
    finally:
        for n, of_size in taken.items():
            for schedule in of_size:
                schedules.give_back(images[:n], schedule)


def sizes_of_parts(n: int, most: int, n_threads: int) -> list[int]:
    """Into what parts a batch is cut for so many threads; none where that does not keep them busy.

    All but the last have the same number of images.

    Args:
        n: images.
        most: images in a part, at least 1.
        n_threads: that work on a part each.
    """
    if n_threads < 2 or n < n_threads or most == WHOLE_BATCH:
        return []
    n_rounds = math.ceil(n / (most * n_threads))
    size = math.ceil(n / (n_rounds * n_threads))
    full, rest = divmod(n, size)
    n_parts = full + (rest > 0)
    busy = n / (math.ceil(n_parts / n_threads) * size * n_threads)
    return [size] * full + [rest] * (rest > 0) if busy >= LEAST_BUSY else []


def _run(
    schedules: Mapping[int, Sequence[Schedule]], parts: Sequence[Array], n_threads: int
) -> list[Array]:
    """Schedules have a `segment` each, and are as many as threads, or as parts of their size."""
    kinds = list(schedules)
    results = [[_result(schedules[n][0], y) for y in schedules[n][0].results()] for n in kinds]
    seats, segments, brought, kept, at = [], [], [], [], 0
    for kind, n in enumerate(kinds):
        for schedule in schedules[n]:
            segments.append(_segment(schedule))
            seats.append(Seat(kind, *segments[-1].seat))
    made = _room(schedules[kinds[0]][0], sum(map(len, parts)))
    for part in parts:
        schedule = schedules[len(part)][0]
        bases, planes, arrays = _segment(schedule).bring(schedule.given(part))
        kept.append(arrays)
        places = [start(y) + at * y.strides[0] for y in made]
        brought.append(Part(kinds.index(len(part)), bases, planes, places))
        at += len(part)
    try:
        run_parts(seats, brought, results, n_threads)
    except Exception as error:
        stopped = [segment.failed for segment in segments if segment.stop()]
        item = stopped[0] if stopped else None
        raise ArtifactError(failure(item, error, len(parts[0]))) from error
    return made


def _segment(schedule: Schedule) -> NativeSegment:
    segment = schedule.segment
    assert segment is not None
    return segment


def _result(schedule: Schedule, y: Array) -> tuple[int, int]:
    """Where in its schedule's memory a result lies, and its bytes."""
    return start(y) - _segment(schedule).seat[1], y.nbytes


def _room(schedule: Schedule, n: int) -> list[Array]:
    try:
        return [longer(y, n) for y in schedule.results()]
    except MemoryError as error:
        raise ArtifactError(failure(None, error, n)) from error
