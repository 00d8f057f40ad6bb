"""Does what `torch.export` saw of a network answer as its code does when it is called?

Export runs the code once, on two images that hold no numbers. A branch on
`torch.compiler.is_exporting()`, or on whether there is one image, goes another way there.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest import mock

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from irbin.errors import LowerError
from irbin.lines import own_line, where_they_part
from irbin.messages import lacks_memory
from irbin.program import stand_in

_SEVERAL = 2
_TRIES = 3
"""Batches: rounding may change a sign, and all behind it, of some images; a branch does of all."""
_APART = 0.01
"""Of the largest number of an answer: far above rounding."""
_QUESTIONS = ("is_exporting", "is_compiling", "is_dynamo_compiling")
"""What a network's code may ask of `torch.compiler`."""


def check_followed(
    network: nn.Module,
    graph: Callable[[Tensor], Any],
    input_size: tuple[int, int, int],
    export: Callable[[], object],
) -> None:
    """Holds an exported graph against the network, called with several images and with one.

    Args:
        network: frozen; a copy of what was exported, since export may leave things in a network
            that hold no numbers (tables that it keeps).
        graph: made by `as_function`.
        input_size: (channels, height, width).
        export: does it again, to find the line that asks.

    Raises:
        LowerError: the graph gives other answers, or the network never the same.
    """
    stand_in.register()
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(_SEVERAL, *input_size, generator=generator) for _ in range(_TRIES)]
    if all(_differ(network, graph, batch) for batch in batches):
        if all(_differ(network, network, batch) for batch in batches):
            raise LowerError(
                f"`{type(network).__name__}` never gives the same answer twice in evaluation mode: "
                "it draws random numbers there too, or changes its own state"
            )
        raise LowerError(
            "the network answers otherwise while `torch.export` follows its code"
            f"{_line_that_asks(export)}: it asks `torch.compiler.is_exporting()` or the like, and "
            "a packed network would give the answers of that branch; take it out"
        )
    if all(_is_otherwise_alone(network, graph, batch) for batch in batches):
        batch = batches[0]
        where = where_they_part(
            lambda: _called(network, batch[:1]), lambda: _called(network, batch)
        )
        raise LowerError(
            f"the network answers otherwise for one image alone than for one of several{where}, as "
            "by `x.squeeze()` or `if len(x) == 1`, and a packed network answers alike; let it not "
            "look at the number of images"
        )


def _differ(network: nn.Module, graph: Callable[[Tensor], Any], images: Tensor) -> bool:
    """Whether no image has the same answers; False where the network does not run."""
    expected = _called(network, images)
    return expected is not None and _all_differ(expected, _answers(graph, images), len(images))


def _is_otherwise_alone(network: nn.Module, graph: Callable[[Tensor], Any], batch: Tensor) -> bool:
    alone, shapes = _called(network, batch[:1]), [t.dim() for t in _answers(graph, batch)]
    if alone is None:
        return False
    if [t.dim() for t in alone] != shapes:
        return True
    return _all_differ(alone, _answers(graph, batch[:1]), 1)


def _called(network: nn.Module, images: Tensor) -> list[Tensor] | None:
    """What a network answers; None where it does not run."""
    was = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # which export does not take
    try:
        return _answers(network, images)
    except Exception as error:  # the network's own code may raise anything
        if lacks_memory(error):
            raise
        return None
    finally:
        torch.backends.mha.set_fastpath_enabled(was)


def as_function(exported: torch.export.ExportedProgram) -> Callable[[Tensor], Any]:
    """What was exported, as a function of images, of any number; edits of the graph come after."""
    kept = fx.GraphModule(exported.graph_module, copy.deepcopy(exported.graph))
    held = {**exported.constants, **exported.state_dict}
    targets = [spec.target for spec in exported.graph_signature.input_specs]

    def run(images: Tensor) -> Any:
        given = [images if target is None else held[target] for target in targets]
        return fx.Interpreter(kept).run(*given)

    return run


def _answers(network: Callable[[Tensor], Any], images: Tensor) -> list[Tensor]:
    with torch.no_grad():
        returned = network(images.clone())  # it may write into them
    return [leaf for leaf in tree_leaves(returned) if isinstance(leaf, Tensor)]


def _all_differ(expected: list[Tensor], got: list[Tensor], n_images: int) -> bool:
    """Whether no image has the same answers, or they have other shapes."""
    if [t.shape for t in expected] != [t.shape for t in got]:
        return True
    agrees = torch.ones(n_images, dtype=torch.bool)
    for one, other in zip(expected, got, strict=True):
        if one.numel():
            has_rows = one.dim() > 0 and one.shape[0] == n_images  # else images lie on another axis
            n_rows = n_images if has_rows else 1
            rows = [t.double().nan_to_num().reshape(n_rows, -1) for t in (one, other)]
            apart = (rows[0] - rows[1]).abs().amax(1)
            agrees &= apart <= _APART * rows[0].abs().amax(1)
    return not bool(agrees.any())


def _line_that_asks(call: Callable[[], object]) -> str:
    """` (net.py:12)`: the first line of a network's own code that asks whether torch exports it."""
    asked: list[str] = []

    def watched(question: Callable[[], bool]) -> Callable[[], bool]:
        def ask() -> bool:
            frame = sys._getframe(1)
            asked.append(own_line([(frame.f_code.co_filename, frame.f_lineno)]))
            return question()

        return ask

    with ExitStack() as patches:
        for name in _QUESTIONS:
            question = getattr(torch.compiler, name)
            patches.enter_context(mock.patch.object(torch.compiler, name, watched(question)))
        call()
    return next((f" ({line})" for line in asked if line), "")
