"""Batch-norm statistics measured anew, without training; what signs see is looked at meanwhile.

Conversion changes what every layer puts out (standardized weights have another size), so the
running statistics of the float network describe nothing any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from irbin.data import check_classes, open_dataset, train_loader
from irbin.data.order import Feed
from irbin.data.workers import told_between_batches
from irbin.errors import TrainingError
from irbin.evaluation.modes import exact_float32
from irbin.records.options import DataOptions
from irbin.rewriting.network import Network
from irbin.tracing.observe import check_signs, counting_signs


@told_between_batches()
def calibrate(
    network: Network,
    data: DataOptions,
    n_images: int,
    report: Callable[[int, int], None] | None = None,
) -> None:
    """Re-estimates batch-norm statistics on images drawn from the training split, in place.

    Args:
        network: a converted one.
        data: where the images are.
        n_images: how many to draw; all of them if there are fewer.
        report: called with (images done, images in all).

    Raises:
        DataError: see `data`; also classes that are not the network's.
        ConvertError: the input of a binary layer has one sign on all of them, and keeps it.
        TrainingError: see `reestimate_batch_norm`.
    """
    dataset = open_dataset(data, data.train_split, network.source.preprocessing, training=False)
    if network.source.num_classes:  # a backbone's statistics are measured on any images
        check_classes(network.source, dataset, by_map=bool(data.class_map))
    n_images = min(n_images, len(dataset))
    loader = train_loader(
        dataset, replace(data, batch_size=min(data.n_batch, n_images)), Feed(seed=0)
    )
    n_batches = max(n_images // loader.batch_size, 1)
    batches = counted_images(islice(loader, n_batches), n_images, report)
    some = next(batches, None)
    if some is None:
        return
    with counting_signs(network.module) as counts:
        n_seen = reestimate_batch_norm(network.module, chain([some], batches))
    check_signs(network.module, counts, n_seen, some)


def counted_images(
    loader: Iterable[tuple[Tensor, Tensor]],
    n_images: int,
    report: Callable[[int, int], None] | None,
) -> Iterator[Tensor]:
    """The images of a loader of `n_images`, telling `report` after each batch."""
    done = 0
    for images, _ in loader:
        yield images
        done = min(done + len(images), n_images)
        if report is not None:
            report(done, n_images)


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
        with torch.no_grad(), exact_float32():
            for images in batches:
                n_images += len(images)
                _weigh(norms.values(), len(images), n_images)
                _run(module, images)
    finally:
        for norm, momentum in momenta:
            norm.momentum = momentum
        for part, training in modes:
            part.training = training
    for name, norm in norms.items():
        _check_finite(name, norm)
    return n_images


def _weigh(norms: Iterable[_BatchNorm], n_new: int, n_images: int) -> None:
    """Gives a batch its share in the statistics; the first one's is all."""
    for norm in norms:
        if n_new == n_images:  # 0 times an old NaN would still be NaN
            norm.reset_running_stats()
        norm.momentum = n_new / n_images


def has_statistics(module: nn.Module) -> bool:
    """Whether there is anything in a network for `reestimate_batch_norm` to measure."""
    return any(map(_has_statistics, module.modules()))


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
