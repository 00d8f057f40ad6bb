"""Random images in the place of a data set, for measuring what training costs."""

from __future__ import annotations

import torch

from irbin.data.batches import Images
from irbin.data.cached import CachedLoader, Pixels
from irbin.data.images import Augmentation, eval_transform
from irbin.data.order import Feed
from irbin.errors import UsageError
from irbin.records.options import DataOptions, Preprocessing

_N_STEPS = 4
"""Steps in an epoch: the order is dealt out anew now and then, as in training."""


def random_loader(
    preprocessing: Preprocessing,
    n_classes: int,
    augmentation: Augmentation,
    batch_size: int,
    *,
    seed: int,
    device: torch.device,
    channels_last: bool = False,
    accumulation: int = 1,
) -> CachedLoader:
    """Random pixels and labels, shuffled, augmented and normalized as a cached data set's are.

    Args:
        preprocessing: what the network reads; images have its size.
        n_classes: labels lie below it.
        augmentation: random changes of whole batches.
        batch_size: images in a batch.
        seed: decides everything random.
        device: where they lie and go.
        channels_last: memory format of the images.
        accumulation: batches in a step.

    Raises:
        UsageError: a policy, which works image by image.
    """
    if augmentation.aa:
        raise UsageError(
            f"`recipe=`: its policy `aa: {augmentation.aa}` changes image by image, which random "
            "images are not made for; give real ones with `data_dir=`"
        )
    n, draw = batch_size * accumulation * _N_STEPS, torch.Generator().manual_seed(seed)
    size = (n, *preprocessing.input_size)
    pixels = torch.randint(0, 256, size, dtype=torch.uint8, generator=draw)
    labels = torch.randint(0, n_classes, (n,), generator=draw)
    dataset = Images(
        range(n), eval_transform(preprocessing), preprocessing, seed, "random images", augmentation
    )
    loader = CachedLoader(
        dataset,
        Pixels(pixels.to(memory_format=torch.channels_last), labels).to(device),
        DataOptions(batch_size=batch_size),
        Feed(
            training=True,
            seed=seed,
            device=device,
            n_classes=n_classes,
            channels_last=channels_last,
            accumulation=accumulation,
        ),
    )
    loader.why = "images: random, augmented in batches"
    return loader
