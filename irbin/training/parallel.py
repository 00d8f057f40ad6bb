"""Gradients over several processes: torch's DDP, and what it leaves to the end of a step."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from irbin.binary.layers import binary_layers
from irbin.processes import Group
from irbin.recipes.recipe import Recipe


def parallel(
    forward: Callable[[Tensor], Any], module: nn.Module, recipe: Recipe, group: Group
) -> Callable[[Tensor], Any]:
    """`forward` with gradients averaged over the processes, by torch's DDP.

    Where a step has several batches, the latent weights' gradients come after the last backward
    pass (see `held_weights`); `Run.step` averages them.

    Args:
        forward: the module or what torch.compile made of it.
        module: the network; every process takes over the first one's tensors, in place.
        recipe: for the batches of a step.
        group: with one process `forward` is handed back.
    """
    if group.size == 1:
        return forward
    for tensor in (*module.parameters(), *module.buffers()):
        group.share(tensor.detach())
    wrapped = cast(nn.Module, forward)
    if recipe.grad_accum_steps > 1:
        latent = {id(layer.weight) for layer in binary_layers(module).values()}
        names = [name for name, p in wrapped.named_parameters() if id(p) in latent]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(wrapped, names)  # type: ignore[no-untyped-call]
    with warnings.catch_warnings():  # its new name is not in torch 2.9
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        return DistributedDataParallel(
            wrapped,
            device_ids=[group.device] if group.device.type == "cuda" else None,
            broadcast_buffers=False,  # `settle_norms` does it once an epoch
            gradient_as_bucket_view=True,
        )


def average(grads: list[Tensor], group: Group) -> None:
    """Puts the mean over the processes in the place of every gradient."""
    if group.size == 1 or not grads:
        return
    flat = torch.cat([grad.flatten() for grad in grads])
    dist.all_reduce(flat)
    flat /= group.size
    parts = torch.split(flat, [grad.numel() for grad in grads])
    for grad, part in zip(grads, parts, strict=True):
        grad.copy_(part.view_as(grad))
