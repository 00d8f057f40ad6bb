"""What a network's own forward can do and its rewritten one cannot, logged for its user."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence

from torch import fx, nn

from irbin.rewriting.further import Edits
from irbin.tracing.numbers import Number

_log = logging.getLogger("irbin")

_MOST_TOLD = 5
"""Numbers that a note names."""


def tell_what_went(module: nn.Module, traced: fx.GraphModule, edits: Edits) -> None:
    """Logs what a network's own forward can do and its edited graph cannot."""
    _, *further = inspect.signature(module.forward).parameters
    if further and edits.why_not:
        _log.warning(
            "`%s`, %s, takes the images alone: %s, optional in the source, cannot be given",
            type(module).__name__,
            edits.why_not,
            ", ".join(f"`{name}`" for name in further),
        )
    if traced.meta["autocast"]:
        _log.warning(
            "the forward of `%s` is rewritten without its `torch.autocast` (%s); "
            "`amp=` of `irbin.finetune()` trains under one",
            type(module).__name__,
            traced.meta["autocast"],
        )
    if traced.meta["no_grad"]:
        _log.warning(
            "the forward of `%s` is rewritten without its `torch.no_grad` (%s): what ran under it "
            "gets gradients; `requires_grad_(False)` on its parameters leaves them as they are",
            type(module).__name__,
            traced.meta["no_grad"],
        )
    if traced.meta["own_backward"]:
        _log.warning(
            "the forward of `%s` is rewritten without the backward of its "
            "`torch.autograd.Function` (%s): gradients are those of what its forward computes",
            type(module).__name__,
            traced.meta["own_backward"],
        )
    if traced.meta["assigned"]:
        _log.warning(
            "the forward of `%s` is rewritten and no longer sets %s: what it keeps there "
            "(losses, feature maps, counts) stays as it is now; let it return what is needed",
            type(module).__name__,
            _listed([f"`{name}`" for name in traced.meta["assigned"]]),
        )
    if traced.meta["has_drawn"]:
        _log.warning(
            "the forward of `%s` is rewritten with random numbers drawn once for all: what it "
            "decides by them (LayerDrop) is the same from now on, in training too",
            type(module).__name__,
        )
    if traced.meta.get("in_evaluation"):
        _log.warning(
            "the forward of `%s` is rewritten and returns in training what it returns in "
            "evaluation: what it adds in training (auxiliary heads) is gone",
            type(module).__name__,
        )


def tell_numbers(
    module: nn.Module, numbers: Sequence[Number], deciding: Sequence[Number] = ()
) -> None:
    """Logs which numbers the rewritten forward does not read from the network again.

    Args:
        module: the network.
        numbers: what is computed from them is in the graph.
        deciding: which of its branches are taken was decided by comparing them.
    """
    if deciding and not numbers:
        _log.warning(
            "the forward of `%s` is rewritten with the branches that %s decides as it is now: "
            "setting it later changes nothing",
            type(module).__name__,
            _listed([f"`{n.name}` ({n.line})" for n in deciding]),
        )
    numbers = [*numbers, *deciding] if numbers else []
    by_line = {(n.name.rpartition(".")[2], n.line): n for n in reversed(numbers)}
    told = [f"`{n.name}`" + f" ({n.line})" * bool(n.line) for n in reversed(by_line.values())]
    if told:
        _log.warning(
            "the forward of `%s` is rewritten with what it computes from %s as it is now: setting "
            "it later changes nothing",
            type(module).__name__,
            _listed(told),
        )


def _listed(told: list[str]) -> str:
    more = f" and {len(told) - _MOST_TOLD} more" * (len(told) > _MOST_TOLD)
    return ", ".join(told[:_MOST_TOLD]) + more
