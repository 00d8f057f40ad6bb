"""What the network rooms hand to each other: a live module and the records that explain it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from irbin.records import Plan, SourceRecord


@dataclass(frozen=True, eq=False)
class Network:
    """A float network (`plan` is None) or a converted one.

    Made by `network.source`, `network.folder` and `network.rewrite`; read by everything after.
    """

    module: nn.Module
    """Maps (batch, channels, height, width) to (batch, num_classes)."""
    source: SourceRecord
    """Where the float network came from."""
    plan: Plan | None = None
    """What was binarized; None for a float network."""
