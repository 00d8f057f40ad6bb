"""What may be binary, and the plan of any part of it; pure and torch-free, like the plan."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from irbin.analysis.rules import keep_rules
from irbin.planning.estimate import estimate
from irbin.planning.plan import make_plan
from irbin.records.analysis import Grouping
from irbin.records.plan import LayerGraph, Plan, PlanOptions


@dataclass(frozen=True)
class Choices:
    """The layers that a plan binarizes, in groups that are chosen or left as a whole.

    Made by `choices`, read by everything else in this room.
    """

    graph: LayerGraph
    """Of the float network."""
    full: Plan
    """Everything binary that may be."""
    groups: Mapping[str, tuple[str, ...]]
    """Name → its layers, in execution order: a layer alone, or a block's."""

    def layers(self, names: Collection[str]) -> tuple[str, ...]:
        """The layers of these groups, in execution order."""
        return tuple(layer for name in self.groups if name in names for layer in self.groups[name])

    def plan(self, names: Collection[str]) -> Plan:
        """The plan in which these groups alone are binary; without any, the float network."""
        chosen = set(self.layers(names))
        if not chosen:
            return self._nothing_binary()
        kept = [re.escape(layer) for layer in self.full.binary_names if layer not in chosen]
        if not kept:
            return self.full
        options = self.full.options
        rule = f"re:{'|'.join(kept)}"
        return make_plan(self.graph, replace(options, keep=(*options.keep, rule)))

    def _nothing_binary(self) -> Plan:
        """What `make_plan` refuses, for its size and time alone."""
        decisions = tuple(
            replace(d, binary=False, packed_bytes=d.float_bytes) if d.binary else d
            for d in self.full.decisions
        )
        return replace(self.full, decisions=decisions, other_bytes=self.graph.other_bytes)

    def options(self, names: Collection[str]) -> PlanOptions:
        """As `plan`, with the fewest rules a user would write; asked of `make_plan`, the same."""
        chosen = self.layers(names)
        kept = [layer for layer in self.full.binary_names if layer not in chosen]
        options = self.full.options
        return replace(options, keep=(*options.keep, *keep_rules(kept, chosen)))

    def packed_bytes(self, names: Collection[str]) -> int:
        """Predicted tensor bytes with these groups binary."""
        return self.plan(names).packed_bytes()

    def seconds(self, names: Collection[str]) -> float:
        """Estimated seconds of one image on one thread with these groups binary."""
        return estimate(self.plan(names)).packed_seconds

    def bytes_saved(self, name: str) -> int:
        """By making one group of the float network binary."""
        return self.packed_bytes(()) - self.packed_bytes([name])

    def seconds_saved(self, name: str) -> float:
        """By making one group of the float network binary, estimated; may be negative."""
        return self.seconds(()) - self.seconds([name])


def choices(graph: LayerGraph, options: PlanOptions, by: Grouping) -> Choices:
    """Every layer that `make_plan` binarizes, alone or with those of the module around it.

    Raises:
        PlanError: see `make_plan`.
    """
    full = make_plan(graph, options)
    groups: dict[str, tuple[str, ...]] = {}
    for name in full.binary_names:
        around = name.rpartition(".")[0]
        group = around if by == "block" and around else name
        groups[group] = (*groups.get(group, ()), name)
    return Choices(graph, full, _with_tied_together(groups, full))


def _with_tied_together(
    groups: dict[str, tuple[str, ...]], full: Plan
) -> dict[str, tuple[str, ...]]:
    """Groups whose layers share a weight become one, under the name of the first."""
    tied = {d.layer.name: d.layer.tied_to for d in full.decisions}
    joined: dict[str, tuple[str, ...]] = {}
    for group, layers in groups.items():
        others = {other for name in layers for other in tied[name]}
        mine = [name for name, theirs in joined.items() if others.intersection(theirs)]
        first = mine[0] if mine else group
        joined[first] = (*(n for name in mine for n in joined[name]), *layers)
        for name in mine[1:]:
            del joined[name]
    return joined
