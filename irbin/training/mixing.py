"""What training changes at random in a whole batch: random erasing, mixup, CutMix, by timm.

The loop seeds before each batch, so nothing here keeps a stream of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from timm.data import Mixup
from timm.data.random_erasing import RandomErasing
from torch import Tensor

from irbin.errors import UsageError
from irbin.recipes.recipe import Recipe

Mix = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]
"""(images, labels, epoch) to (images, labels or mixed targets); images may be changed in place."""


def make_mix(recipe: Recipe, n_classes: int, batch_size: int, device: torch.device) -> Mix:
    """The batch augmentation of a recipe.

    Args:
        recipe: probabilities and strengths.
        n_classes: width of mixed targets.
        batch_size: images in every batch.
        device: where batches are.

    Returns:
        From images (batch, channels, height, width), labels (batch,) and the epoch to images of
        that shape and labels, or targets (batch, n_classes) where images are mixed.

    Raises:
        UsageError: mixing a batch of odd size: timm mixes pairs.
    """
    erase = None
    if recipe.reprob > 0:
        erase = RandomErasing(
            recipe.reprob, mode=recipe.remode, max_count=recipe.recount, device=device
        )
    mixup = None
    if recipe.mixup > 0 or recipe.cutmix > 0:
        if batch_size % 2:
            raise UsageError(f"`batch_size=`: mixup and cutmix need an even one, got {batch_size}")
        mixup = Mixup(
            recipe.mixup,
            recipe.cutmix,
            prob=recipe.mixup_prob,
            switch_prob=recipe.mixup_switch_prob,
            label_smoothing=recipe.smoothing,
            num_classes=n_classes,
        )

    def mix(images: Tensor, labels: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        if erase is not None:
            images = erase(images)
        if mixup is None or 0 < recipe.mixup_off_epoch <= epoch:
            return images, labels
        mixed: tuple[Tensor, Tensor] = mixup(images, labels)
        return mixed

    return mix
