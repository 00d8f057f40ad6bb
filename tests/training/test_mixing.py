from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from irbin.data.seeding import seed_all
from irbin.errors import UsageError
from irbin.recipes.recipe import Recipe
from irbin.training.mixing import make_mix

CPU = torch.device("cpu")
IMAGES = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 8, 8)
LABELS = torch.tensor([0, 1, 2, 0])


def test_without_mixing_nothing_changes(recipe: Recipe) -> None:
    images, targets = make_mix(recipe, 3, 4, CPU)(IMAGES.clone(), LABELS, 0)
    assert torch.equal(images, IMAGES)
    assert torch.equal(targets, LABELS)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_mixing_mixes_images_and_targets_in_the_same_ratio(kind: str, recipe: Recipe) -> None:
    mix = make_mix(replace(recipe, **{kind: 1.0}), 3, 4, CPU)
    seed_all(1)
    images, targets = mix(IMAGES.clone(), LABELS, 0)
    assert targets.shape == (4, 3)
    assert torch.allclose(targets.sum(1), torch.ones(4))
    share = targets[1, 1]  # of image 1, whose partner is image 2
    assert images[1].mean() == pytest.approx(float(share * 1 + (1 - share) * 2), abs=1e-5)
    seed_all(1)
    assert torch.equal(mix(IMAGES.clone(), LABELS, 0)[0], images)


def test_mixing_ends_at_its_epoch(recipe: Recipe) -> None:
    mix = make_mix(replace(recipe, mixup=1.0, mixup_off_epoch=2), 3, 4, CPU)
    assert [mix(IMAGES.clone(), LABELS, epoch)[1].dim() for epoch in range(4)] == [2, 2, 1, 1]


@pytest.mark.parametrize("mode", ["const", "rand", "pixel"])
def test_erasing_changes_a_block_of_every_image(mode: str, recipe: Recipe) -> None:
    mix = make_mix(replace(recipe, reprob=1.0, remode=mode), 3, 4, CPU)
    seed_all(2)
    images, targets = mix(IMAGES + 5, LABELS, 0)
    shares = (images != IMAGES + 5).any(1).flatten(1).float().mean(1)
    assert (shares > 0).all()
    assert (shares < 0.5).all()
    assert torch.equal(targets, LABELS)


def test_odd_batches_cannot_be_mixed(recipe: Recipe) -> None:
    with pytest.raises(UsageError, match="`batch_size=`: mixup and cutmix need an even one, got 5"):
        make_mix(replace(recipe, cutmix=1.0), 3, 5, CPU)
