"""Batch norm over all processes' batches: torch's on GPUs, the same arithmetic for the CPU here.

torch's `SyncBatchNorm` refuses CPU tensors. Ours sums Σx, Σx² and counts over the processes, with
gradients through the sums, so that several processes compute what one with all images would.

torch.compile leaves both out of what it compiles, and so its warm-up can do without exchanging
anything (`unsynchronized`): it may fail, or be done again, in one process alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
import torch.distributed.nn.functional as differentiable
import torch.nn.functional as functional
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from irbin.processes import Group


def synchronized(module: nn.Module, group: Group) -> nn.Module:
    """The network with batch norms that see every process's batch; parameters are shared.

    Args:
        module: changed inside, in place.
        group: with one process there is nothing to do.
    """
    if group.size == 1:
        return module
    if group.device.type != "cpu":
        converted: nn.Module = convert_sync_batchnorm(module)
        for norm in converted.modules():
            if isinstance(norm, nn.SyncBatchNorm) and not isinstance(norm, _OnGpu):
                norm.__class__ = type(type(norm).__name__, (_OnGpu, type(norm)), {})
        return converted
    for part in module.modules():
        if isinstance(part, _BatchNorm) and not isinstance(part, _OnCpu):
            kind = type(part)
            part.__class__ = type(f"Sync{kind.__name__}", (_OnCpu, kind), {})
    return module


@contextmanager
def unsynchronized() -> Iterator[None]:
    """Within, each process computes with its own batch alone, and exchanges nothing."""
    global _is_alone
    before, _is_alone = _is_alone, True
    try:
        yield
    finally:
        _is_alone = before


_is_alone = False


def _of_own_batch(norm: _BatchNorm, x: Tensor) -> Tensor:
    """Maps (batch, channels, …) to the same shape, with the batch's own statistics."""
    y = functional.batch_norm(
        x, None, None, norm.weight, norm.bias, training=True, momentum=0.0, eps=norm.eps
    )
    return _activated(norm, y)


def _activated(norm: _BatchNorm, y: Tensor) -> Tensor:
    """timm's have an activation in their own forward."""
    if hasattr(norm, "act"):
        parts = cast(Any, norm)
        return cast(Tensor, parts.act(parts.drop(y)))
    return y


class _OnGpu(nn.SyncBatchNorm):
    """torch's, or timm's, which torch.compile does not look into."""

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # torch's gap
    def forward(self, x: Tensor) -> Tensor:
        if _is_alone and self.training:
            return _of_own_batch(self, x)
        return super().forward(x)


class _OnCpu(_BatchNorm):
    """What a batch norm becomes; maps (batch, channels, …) to the same shape."""

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # torch's gap
    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        if _is_alone:
            return _of_own_batch(self, x)
        wide = x.float()
        axes = [0, *range(2, x.dim())]
        count = torch.full((1,), x.numel() / x.shape[1], dtype=torch.float32)
        own = torch.cat([wide.sum(axes), wide.square().sum(axes), count])  # (2·channels + 1,)
        sums = cast(Tensor, differentiable.all_reduce(own))  # type: ignore[no-untyped-call]
        n = sums[-1]
        mean, square = (sums[:-1] / n).chunk(2)
        variance = (square - mean.square()).clamp_min(0)  # biased, as torch normalizes
        self._follow(mean.detach(), variance.detach() * n.detach() / (n.detach() - 1).clamp_min(1))
        scale = torch.rsqrt(variance + self.eps)
        shift = -mean * scale
        if self.affine:
            scale, shift = scale * self.weight, shift * self.weight + self.bias
        shape = [1, -1, *[1] * (x.dim() - 2)]
        y = (wide * scale.view(shape) + shift.view(shape)).to(x.dtype)
        return _activated(self, y)

    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        """Moves the running statistics, as torch does."""
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        share = self.momentum
        if share is None:  # a cumulative average
            assert self.num_batches_tracked is not None, "it tracks"
            share = 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(variance.to(self.running_var.dtype), share)
