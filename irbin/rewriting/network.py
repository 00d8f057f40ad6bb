"""What sources and rewriting hand on: a live module and the records that explain it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from irbin.binary.anneal import EdePhase
from irbin.records.options import SourceRecord
from irbin.records.plan import Plan


@dataclass(frozen=True, eq=False)
class Network:
    """A float network (`plan` is None) or a converted one.

    Made by `sources.spec`, `sources.folder` and `rewriting.rewrite`; read by everything after.
    """

    module: nn.Module
    """Maps (batch, channels, height, width) to (batch, num_classes), or to features."""
    source: SourceRecord
    """Where the float network came from."""
    plan: Plan | None = None
    """What was binarized; None for a float network."""
    notes: tuple[str, ...] = ()
    """What opening the source took for granted, a sentence each: names matched, tensors left, a new
    head. Nothing where the weights were exactly the network's."""


def is_converted(module: nn.Module) -> bool:
    """Whether a live module is that of a converted network, whoever has its plan."""
    return isinstance(getattr(module, "ede", None), EdePhase)
