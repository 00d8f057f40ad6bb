"""Batch-norm statistics measured anew, without training.

Conversion changes what every layer puts out (standardized weights have another size), so the
running statistics of the float network describe nothing any more.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from irbin.errors import TrainingError


def reestimate_batch_norm(module: nn.Module, batches: Iterable[Tensor]) -> int:
    """Replaces running means and variances by their averages over `batches`, in place.

    Every image has the same weight, also in a smaller last batch. Only batch norm runs in training
    mode: dropout is off. Without a batch nothing changes; modes and momenta are handed back as they
    came.

    Args:
        module: maps (batch, channels, height, width) to outputs.
        batches: images, (batch, channels, height, width), on the module's device.

    Returns:
        Images seen.

    Raises:
        TrainingError: a batch too small for batch norm, or statistics that are not finite.
    """
    norms = {name: m for name, m in module.named_modules() if _has_statistics(m)}
    modes = [(part, part.training) for part in module.modules()]
    momenta = [(norm, norm.momentum) for norm in norms.values()]
    n_images = 0
    module.eval()
    try:
        for norm in norms.values():
            norm.train()
        with torch.no_grad():
            for images in batches:
                if n_images == 0:  # 0 times an old NaN would still be NaN
                    for norm in norms.values():
                        norm.reset_running_stats()
                n_images += len(images)
                for norm in norms.values():
                    norm.momentum = len(images) / n_images
                _run(module, images)
    finally:
        for norm, momentum in momenta:
            norm.momentum = momentum
        for part, training in modes:
            part.training = training
    for name, norm in norms.items():
        _check_finite(name, norm)
    return n_images


def _has_statistics(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and module.track_running_stats


def _run(module: nn.Module, images: Tensor) -> None:
    try:
        module(images)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise TrainingError(
            f"expected batches of at least 2 images to measure batch norm on, got {len(images)}"
        ) from error


def _check_finite(name: str, norm: _BatchNorm) -> None:
    for statistic in (norm.running_mean, norm.running_var):
        if statistic is not None and not bool(statistic.isfinite().all()):
            raise TrainingError(
                f"expected finite statistics, got NaN or infinity in batch norm `{name}`: what the "
                "network computes before it is not finite"
            )
