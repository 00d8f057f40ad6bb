"""Where the kernels' results lie: one block of memory a schedule, places taken again when free.

A result is needed from the item that makes it to the last one that reads it or a view of it. Two
results whose times overlap get places that do not. One exception saves a pass through memory: a
result may be written over the tensor that is added to it, if nobody needs that afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ALIGNMENT = 64
"""Bytes of a cache line: no two results share one."""


@dataclass(frozen=True)
class Need:
    """A result to place. Made by `runtime.schedule`."""

    name: str
    """Of the result."""
    n_bytes: int
    """Its size."""
    first: int
    """Index of the item that makes it."""
    last: int
    """Index of the last item that needs it; the number of items if the caller does."""
    over: tuple[str, ...] = ()
    """Results of the same size that it may be written over, if they are last needed at `first`."""


def place(needs: Sequence[Need]) -> tuple[dict[str, int], int]:
    """Offsets in bytes by name, and the bytes of the whole block.

    Args:
        needs: in the order of their making.
    """
    offsets: dict[str, int] = {}
    living: list[tuple[int, int, Need]] = []  # offset, end, whose
    total = 0
    for need in needs:
        n_bytes = -(-max(need.n_bytes, 1) // ALIGNMENT) * ALIGNMENT
        living = [one for one in living if one[2].last >= need.first]
        offset = _over(need, living)
        if offset is None:
            offset = _gap(n_bytes, living)
        offsets[need.name] = offset
        living = [one for one in living if not (one[0] == offset and one[2].last == need.first)]
        living.append((offset, offset + n_bytes, need))
        total = max(total, offset + n_bytes)
    return offsets, total


def _over(need: Need, living: Sequence[tuple[int, int, Need]]) -> int | None:
    """The place of a tensor that is added to the result and not needed afterwards."""
    for offset, _, other in living:
        if other.name in need.over and other.last == need.first and other.n_bytes == need.n_bytes:
            return offset
    return None


def _gap(n_bytes: int, living: Sequence[tuple[int, int, Need]]) -> int:
    """The lowest offset at which so many bytes are free."""
    at = 0
    for offset, end, _ in sorted(living, key=lambda one: one[0]):
        if offset - at >= n_bytes:
            break
        at = max(at, end)
    return at
