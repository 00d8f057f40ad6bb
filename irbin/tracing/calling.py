"""A network is called with images for the first time: does it take them, and what does it answer?

Where it does not, the reason is looked for: how its forward is declared, which other size it runs
at, and the line of its code that raised.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._pytree import keystr, tree_flatten_with_path

from irbin.copies import plain_floats
from irbin.errors import SourceError
from irbin.lines import line_of_error
from irbin.messages import lacks_memory, with_class
from irbin.records.options import Preprocessing
from irbin.tracing.tracer import untouched

_SIDES = (32, 28, 64, 96, 128, 224, 240, 256, 299, 384)
"""Sizes that networks of images are made for."""

_SHOWN = 80
"""Characters shown of how a forward is declared."""


@plain_floats()
def count_classes(module: nn.Module, seen: Preprocessing, name: str) -> int:
    """Outputs of a classifier, found by running it once on zeros in eval mode; 0 for a backbone.

    A backbone returns anything but one tensor (batch, num_classes), or has `num_classes` 0, as
    timm's networks without a head do.

    Raises:
        SourceError: it does not run at that size, or returns something else than tensors.
    """
    was_training = module.training
    try:
        module.eval()
        try:
            returned = _answer(module, seen.input_size)
        except Exception as error:  # the user's code may raise anything
            raise SourceError(f"`{name}`{why_it_fails(module, seen.input_size, error)}") from error
    finally:
        module.train(was_training)
    _check_results(returned, name)
    is_classifier = isinstance(returned, Tensor) and returned.dim() == 2
    return returned.shape[1] if is_classifier and vars(module).get("num_classes") != 0 else 0


def _answer(module: nn.Module, size: tuple[int, ...]) -> Any:
    with torch.no_grad():
        return module(torch.zeros(2, *size))


def why_it_fails(module: nn.Module, size: tuple[int, ...], error: Exception) -> str:
    """What to say, behind the name of a network, of an error that a batch of zeros raised in it.

    Args:
        module: the network, in evaluation mode, on the CPU.
        size: (channels, height, width) of the images.
        error: what it raised.

    Raises:
        RuntimeError: the error itself, where memory lacked: that is no fault of the network.
    """
    if lacks_memory(error):
        raise error
    return _why_it_cannot_be_called(module) or (
        f" does not run on a batch of images of {size}: {cause(error)}"
        + _advice(module, size, error)
    )


def cause(error: BaseException) -> str:
    """An error in one line: its class, the first line of its message, the network's own line."""
    line = line_of_error(error)
    return with_class(error) + f" ({line})" * bool(line)


def _why_it_cannot_be_called(module: nn.Module) -> str:
    """What its declaration says against a call with images alone; '' if nothing."""
    try:
        declared = inspect.signature(module.forward)
    except (TypeError, ValueError):
        return ""
    try:
        declared.bind(torch.empty(0))
    except TypeError:
        pass
    else:
        return ""
    parameters = declared.parameters.values()
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in parameters]
    text = f"forward{inspect.Signature(plain)}"
    shown = f"`{text[:_SHOWN]}{'…' * (len(text) > _SHOWN)}`"
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if not positional:
        return (
            ": expected a forward whose first argument is a batch of images, got "
            f"{shown}; declare one, as in `forward(self, images)`"
        )
    needed = [p.name for p in parameters if p.default is p.empty and p is not positional[0]]
    needed = [n for n in needed if declared.parameters[n].kind not in _ANY_NUMBER]
    return (
        f": expected a forward that needs images alone, got {shown}, which needs "
        f"{', '.join(f'`{name}`' for name in needed)} too; give defaults, or convert a module "
        "whose forward(images) calls it"
    )


_ANY_NUMBER = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _advice(module: nn.Module, size: tuple[int, ...], error: Exception) -> str:
    """What to do about the size, if that is the cause: at another one the network does otherwise.

    A fault of the code itself raises the same at every size that comes as far.
    """
    if any(is_lazy(t) for t in (*module.parameters(), *module.buffers())):
        return ""  # the first images that they see make their weights
    convolutions = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
    channels = dict.fromkeys([size[0], *(m.in_channels for m in convolutions[:1]), 3, 1])
    depends = False
    sides = [(size[1], size[2]), *((side, side) for side in _SIDES)]
    for other in ((n, *pair) for n in channels for pair in sides):
        if other == tuple(size):
            continue
        try:
            with untouched(module):
                _answer(module, other)
        except Exception as raised:
            is_same_fault = line_of_error(raised) == line_of_error(error)
            is_size = other[0] == size[0]  # other channels fail for a reason of their own
            depends = depends or (is_size and is_same_fault and str(raised) != str(error))
        else:
            return f"; it runs on images of {other}: give `input_size={other}`"
    return "; if it expects another size, give it with `input_size=`" if depends else ""


def _check_results(returned: Any, name: str) -> None:
    """Refuses what is not logits, a feature map, or several of these; names the first such leaf."""
    expected = (
        f"`{name}`: expected logits of shape (batch, num_classes), a feature map, "
        "or a list of these"
    )
    leaves, _ = tree_flatten_with_path(returned)
    if not leaves:
        raise SourceError(f"{expected}, got an empty {type(returned).__name__}")
    for path, leaf in leaves:
        if not (isinstance(leaf, Tensor) and leaf.dim() > 1):
            raise SourceError(
                f"{expected}, but `output{keystr(path)}` is {_kind(leaf)}"
                + "; return tensors alone" * (not isinstance(leaf, Tensor))
            )
        if 0 in leaf.shape[1:]:
            raise SourceError(
                f"{expected}, but `output{keystr(path)}` is {_kind(leaf)}, which holds nothing; "
                "give it at least one class"
            )


def _kind(leaf: object) -> str:
    if leaf is None:
        return "None"
    if isinstance(leaf, Tensor):
        return f"a tensor of shape {tuple(leaf.shape)}"
    word = type(leaf).__name__
    return f"an {word}" if word[:1].lower() in "aeiou" else f"a {word}"
