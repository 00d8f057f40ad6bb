from __future__ import annotations

from typing import Any

import pytest
import torch

from irbin.data.cached import CachedLoader
from irbin.data.images import Augmentation
from irbin.data.synthetic import random_loader
from irbin.errors import UsageError
from irbin.records.options import Preprocessing

CPU = torch.device("cpu")
SMALL = Preprocessing((3, 32, 32), (0.5,) * 3, (0.25,) * 3)


def loader(augmentation: Augmentation | None = None, **more: Any) -> CachedLoader:
    options = {"seed": 0, "device": CPU, "channels_last": True, **more}
    return random_loader(SMALL, 10, augmentation or Augmentation(), 8, **options)


def test_images_fill_all_values_and_every_label_has_an_output() -> None:
    pixels = loader()._pixels
    assert (int(pixels.images.min()), int(pixels.images.max())) == (0, 255)
    assert set(pixels.labels.tolist()) <= set(range(10))
    assert len(pixels.labels.unique()) > 5


def test_batches_are_normalized_padded_and_cut() -> None:
    images, labels = next(iter(loader()))
    assert (images.shape, labels.shape) == ((8, 3, 32, 32), (8,))
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert (images.min(), images.max()) == (-2, 2)
    assert (images[:, 0] == -2).all(dim=1).any()  # a column of the black border


@pytest.mark.parametrize("accumulation", [1, 3])
def test_an_epoch_has_several_steps_of_whole_batches(accumulation: int) -> None:
    assert len(list(loader(accumulation=accumulation))) == 4 * accumulation


def test_a_seed_decides_everything() -> None:
    one, same, other = (next(iter(loader(seed=seed)))[0] for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_photographs_are_cut_and_resized() -> None:
    images, _ = next(iter(loader(Augmentation(crop_padding=0))))
    assert images.shape == (8, 3, 32, 32)
    assert images.std() < next(iter(loader(Augmentation(hflip=0))))[0].std()  # resizing blurs


def test_a_policy_for_single_images_needs_real_ones() -> None:
    with pytest.raises(
        UsageError,
        match=r"^`recipe=`: its policy `aa: rand-m9` changes image by image, which random images "
        r"are not made for; give real ones with `data_dir=`$",
    ):
        loader(Augmentation(aa="rand-m9"))
