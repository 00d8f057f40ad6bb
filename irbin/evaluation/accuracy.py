"""Any callable network and a loader become an evaluation record: every image, none twice.

Counts are summed as whole numbers on the device and read once at the end.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from irbin.allocation import memory_kept
from irbin.data.sending import moved
from irbin.data.workers import told_between_batches
from irbin.evaluation.modes import autocast, evaluating, exact_float32
from irbin.evaluation.speed import Speed
from irbin.evaluation.tally import Tally, gathered, start
from irbin.processes import ALONE, Group
from irbin.records.counts import counts_json
from irbin.records.options import NetworkForm, Preprocessing
from irbin.records.results import Evaluation


@dataclass(frozen=True)
class Subject:
    """What is evaluated, for the record. Made by callers of `evaluate`."""

    name: str
    kind: NetworkForm
    """Which form of the network runs."""
    class_names: tuple[str, ...] | None
    """In the order of the outputs; None counts them."""
    param_count: int
    """Of the float network."""
    size_bytes: int
    """On disk, of what is evaluated."""
    preprocessing: Preprocessing
    """How the loader feeds images."""
    stated_by: dict[str, str] | None = None
    """Who said so."""


@told_between_batches()
def evaluate(
    model: Callable[[Tensor], Tensor],
    loader: Iterable[tuple[Tensor, Tensor]],
    subject: Subject,
    *,
    device: str | torch.device = "cpu",
    channels_last: bool = False,
    amp_dtype: torch.dtype | str | None = None,
    report: Callable[[int, int], None] | None = None,
    watch: Callable[[Tensor, Tensor], None] | None = None,
    group: Group = ALONE,
) -> Evaluation:
    """Accuracy and loss of a network on every image of a loader.

    A module is put into evaluation mode and handed back in the modes it came in.

    Args:
        model: (batch, channels, height, width) to (batch, num_classes); of what the loader gives.
        loader: batches of images and labels, as `data.eval_loader` makes them.
        subject: what the record says of the network.
        device: where batches are moved.
        channels_last: memory format of the images.
        amp_dtype: autocast to this type or its name; None computes in float32.
        report: called after each batch with images done and images in all (0 where unknown).
        watch: shown the logits and labels of every batch of this process, on its device.
        group: processes that share the images; each gets the record of all of them.

    Raises:
        DataError: the loader gave no image, or labels that the network has no output for.
        LostWorkerError: a worker of the loader ended.
    """
    place = torch.device(device)
    n_images = int(getattr(loader, "n_images", 0))
    n_done = 0
    tally: Tally | None = None
    speed = Speed(place)
    begin = time.perf_counter()
    exact = exact_float32() if amp_dtype in (None, "off") else contextlib.nullcontext()
    casting = autocast(place, amp_dtype)
    with memory_kept(), evaluating(model), torch.inference_mode(), casting, exact:
        for images, labels in loader:
            images, labels = moved(images, place), moved(labels, place)
            if channels_last:
                images = images.to(memory_format=torch.channels_last)
            with speed.call(len(labels)):
                logits = model(images)
            logits = logits.float()
            tally = tally or start(logits, labels)
            tally.add(logits, labels)
            if watch is not None:
                watch(logits, labels)
            n_done += len(labels)
            if report is not None:
                report(min(n_done * group.size, n_images) if n_images else n_done, n_images)
    tally = gathered(tally, group)
    seen, right = tally.seen.tolist(), tally.right.tolist()
    n_images = sum(seen)
    names = subject.class_names or tuple(str(i) for i in range(len(seen)))
    return Evaluation(
        name=subject.name,
        kind=subject.kind,
        n_images=n_images,
        top1=100 * sum(right) / n_images,
        top5=100 * int(tally.right_in_top) / n_images,
        loss=float(tally.loss) / n_images,
        per_class={
            label: 100 * hits / n for label, n, hits in zip(names, seen, right, strict=False) if n
        },
        images_per_second=speed.images_per_second * group.size,
        images_per_second_decoded=n_images / max(time.perf_counter() - begin, 1e-9),
        param_count=subject.param_count,
        size_bytes=subject.size_bytes,
        preprocessing=subject.preprocessing,
        stated_by=subject.stated_by,
        counts=tally.counts(names),
    )


def timm_result(evaluation: Evaluation) -> dict[str, Any]:
    """The record under the keys of timm's `validate.py`, ours after them.

    timm counts parameters in millions and gives accuracies and errors in per cent.
    """
    height, width = evaluation.preprocessing.input_size[1:]
    return {
        "model": evaluation.name,
        "top1": round(evaluation.top1, 4),
        "top1_err": round(100 - evaluation.top1, 4),
        "top5": round(evaluation.top5, 4),
        "top5_err": round(100 - evaluation.top5, 4),
        "param_count": round(evaluation.param_count / 1e6, 2),
        "img_size": height if height == width else [height, width],
        "crop_pct": evaluation.preprocessing.crop_pct,
        "interpolation": evaluation.preprocessing.interpolation,
        "crop_mode": evaluation.preprocessing.crop_mode,
        "mean": list(evaluation.preprocessing.mean),
        "std": list(evaluation.preprocessing.std),
        "stated_by": evaluation.stated_by,
        "kernels": evaluation.kernels,
        "input_type": evaluation.input_type,
        "kind": evaluation.kind,
        "n_images": evaluation.n_images,
        "top1_margin": round(evaluation.top1_margin, 4),
        "top5_margin": round(evaluation.top5_margin, 4),
        "loss": evaluation.loss,
        "per_class": evaluation.per_class,
        "images_per_second": round(evaluation.images_per_second, 2),
        "images_per_second_decoded": round(evaluation.images_per_second_decoded, 2),
        "size_bytes": evaluation.size_bytes,
        **(counts_json(evaluation.counts) if evaluation.counts else {}),
    }
