"""Does a network draw random numbers where it is evaluated? A packed one may not."""

from __future__ import annotations

import torch
from torch import fx

from irbin.errors import LowerError
from irbin.program.place import place

_WITHOUT_CHANCE = {
    "dropout": "; write `F.dropout(x, p, self.training)`",
    "rrelu": "; write `F.rrelu(x, training=self.training)`",
}
"""Part of an operator's name → what draws numbers in training alone."""


def refuse_chance(node: fx.Node) -> None:
    """Refuses a node that draws random numbers.

    Raises:
        LowerError: names it, and its place in the source.
    """
    if not draws_numbers(node):
        return
    name = str(node.target)
    way = next((words for part, words in _WITHOUT_CHANCE.items() if part in name), "")
    raise LowerError(
        f"`{name}`{place(node)} draws random numbers in evaluation mode too, but a packed "
        f"network gives one answer to one image{way}"
    )


def draws_numbers(node: fx.Node) -> bool:
    """Whether a node draws random numbers: dropout does where it is told that it trains."""
    tags = getattr(node.target, "tags", ())
    if torch.Tag.nondeterministic_seeded not in tags:
        return False
    schema = node.target._schema  # type: ignore[union-attr]
    given = {a.name: a.default_value for a in schema.arguments if a.has_default_value()}
    given |= {a.name: v for a, v in zip(schema.arguments, node.args, strict=False)}
    given |= node.kwargs
    probability = given.get("p", given.get("dropout_p", given.get("dropout", 1)))
    return bool(given.get("train", given.get("training", True))) and probability != 0
