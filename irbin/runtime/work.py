"""What a model hands to its schedules, and what of it can be said before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from irbin.kernels.kernel import Kernel
from irbin.program.fused import Item, results
from irbin.program.types import Node, ValueType
from irbin.runtime.calls import runs_torch
from irbin.runtime.operators import Operation
from irbin.runtime.views import integer


@dataclass(frozen=True, eq=False)
class Work:
    """What a model hands to its schedules, the same for every batch size."""

    items: tuple[Item, ...]
    """In order."""
    kernels: Mapping[str, Kernel]
    """Of the fused items, by name."""
    operations: Mapping[str, Operation]
    """Of the others, by operator."""
    constants: Mapping[str, Any]
    """Known values: arrays, tensors, integers."""
    source: str
    """Name of the images."""
    outputs: tuple[str, ...]
    """Names of the results."""
    types: Mapping[str, ValueType] = field(default_factory=dict)
    """Of the images and constants, for sizes that are asked of them."""

    @cached_property
    def runs_torch(self) -> bool:
        """Whether an item is torch's: no kernel computes it, and it is more than a look."""
        return any(isinstance(item, Node) and runs_torch(item) for item in self.items)


def integers(work: Work, n: int) -> dict[str, Any]:
    """Sizes that are known before anything runs."""
    types = {**work.types, **{item.name: item.type for item in work.items}}
    for item in work.items:
        types |= dict.fromkeys(results(item), item.type)
    known: dict[str, Any] = {k: v for k, v in work.constants.items() if isinstance(v, int)}
    for item in work.items:
        size = integer(item, known, types, n) if isinstance(item, Node) else None
        if size is not None:
            known[item.name] = size
    return known


def last_uses(work: Work) -> list[tuple[str, ...]]:
    """For each item, results that nothing reads after it."""
    kept = {*work.outputs, *work.constants}
    last_uses: list[tuple[str, ...]] = []
    for item in reversed(work.items):
        own = results(item) if isinstance(item, Node) else ()
        last = {*item.refs(), *own} - kept
        kept |= last
        last_uses.append(tuple(sorted(last)))
    return last_uses[::-1]
