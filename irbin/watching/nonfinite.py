"""Where a network stops being finite, for the message when a loss is NaN or infinite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from irbin.evaluation.modes import autocast


def first_nonfinite(module: nn.Module, images: Tensor, amp: str | None = None) -> str | None:
    """Names, in words, the first place where a network that ran on `images` is not finite.

    Looked at in this order: the images; parameters, which are not finite after a step with a
    gradient that was not; a run in the mode the module is in; buffers, last because the run that
    gave the loss has spoiled running statistics behind the place. Buffers and random state are
    handed back as they came.

    Args:
        module: the network, not the compiled one.
        images: the batch with the loss that is not finite, (batch, channels, height, width).
        amp: autocast's type, as in training.

    Returns:
        A clause that begins with the place, or None: everything is finite, so the loss itself is
        where it happens.
    """
    if not _finite(images):
        return "the images hold values that are not finite"
    return (
        _stored(dict(module.named_parameters()), "parameters")
        or _made(module, images, amp)
        or _stored(dict(module.named_buffers()), "buffers")
    )


def _stored(tensors: dict[str, Tensor], kind: str) -> str | None:
    names = [name for name, tensor in tensors.items() if not _finite(tensor)]
    if len(names) < 2:
        return f"`{names[0]}` holds values that are not finite" if names else None
    # a backward pass from NaN spoils all that it reaches, so more names would say little
    return (
        f"{len(names)} of {len(tensors)} {kind} hold values that are not finite, `{names[0]}` and "
        f"`{names[-1]}` among them"
    )


def _made(module: nn.Module, images: Tensor, amp: str | None) -> str | None:
    """The first module to end with an output that is not finite on finite inputs.

    A module ends before those around it, so this is the innermost one.
    """
    sentences: list[str] = []

    def watch(name: str) -> Callable[..., None]:
        def note(
            part: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
        ) -> None:
            if not sentences and _finite((args, kwargs)) and not _finite(output):
                place = f"`{name}` ({type(part).__name__})" if name else "the network itself"
                sentences.append(f"{place} makes values that are not finite out of finite ones")

        return note

    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
    hooks = [
        part.register_forward_hook(watch(name), with_kwargs=True)
        for name, part in module.named_modules()
    ]
    devices = [images.device] if images.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices), torch.no_grad(), autocast(images.device, amp):
            module(images)
    finally:
        for hook in hooks:
            hook.remove()
        for buffer, before in buffers:
            buffer.copy_(before)
    return sentences[0] if sentences else None


def _finite(values: Any) -> bool:
    """Whether every tensor in a nest of containers is finite."""
    return all(
        bool(leaf.isfinite().all()) for leaf in tree_leaves(values) if isinstance(leaf, Tensor)
    )
