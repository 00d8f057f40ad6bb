"""What a packed network is given beside images of the right size: other tensors, and state dicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from irbin.errors import UsageError


def refuse_untaken(x: Tensor) -> None:
    """Refuses images that are no floats, and torch's tracers.

    Raises:
        UsageError: says what to do instead.
    """
    is_traced = torch._C._get_tracing_state() is not None or torch.compiler.is_exporting()
    if is_traced or isinstance(x, FakeTensor):
        raise UsageError(
            "a packed network runs irbin's own kernels, which torch cannot trace; give "
            "`torch.onnx.export`, `torch.export` or `torch.jit.trace` the trained network "
            "(`irbin.open_network(RUN).module`), or ship the packed folder"
        )
    if not x.is_floating_point():
        raise UsageError(
            f"expected floating images, got {str(x.dtype).removeprefix('torch.')}; divide "
            "bytes by 255 and normalize with `manifest.source.preprocessing`'s mean and std"
        )


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A folder's tensors as a state dict names them."""
    return {prefix + name: tensor for name, tensor in tensors.items()}


def compare_state(
    own: Mapping[str, Tensor], state: Mapping[str, Tensor], prefix: str, _: Any, strict: bool,
    missing: list[str], unexpected: list[str], messages: list[str],
) -> None:  # fmt: skip
    """Takes a state dict of the tensors that are there already: others are another folder.

    Args:
        own: the packed network's tensors under their full names.
        state: what is to be loaded.
        prefix: of this network in it.
        strict: whether names that are not its own are told.
        missing: gets the names that `state` lacks.
        unexpected: gets names that are not its own.
        messages: gets what is wrong.
    """
    missing += [name for name in own if name not in state]
    if strict:
        unexpected += [name for name in state if name.startswith(prefix) and name not in own]
    for name, tensor in own.items():
        given = state.get(name, tensor)
        if given.shape != tensor.shape or not bool((given.to("cpu") == tensor).all()):
            messages.append(
                f"`{name}`: a packed network keeps the weights of its folder; load the other "
                "folder with `irbin.load`"
            )
            return
