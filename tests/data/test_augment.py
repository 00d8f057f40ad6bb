from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torchvision.transforms import functional

from irbin.data.augment import BatchAugmentation, jitter_colors, padded_crop, pads_in_batches
from irbin.data.images import Augmentation
from irbin.data.order import uniforms
from irbin.records.options import Preprocessing

SMALL = Preprocessing((3, 32, 32), (0.5,) * 3, (0.25,) * 3, "bilinear", 1.0)


def pictures(n: int, channels: int = 3, height: int = 32, width: int = 32) -> torch.Tensor:
    pixels = np.random.default_rng(0).integers(0, 256, (n, channels, height, width), np.uint8)
    return torch.from_numpy(pixels)


def as_pil(image: torch.Tensor) -> Image.Image:
    return functional.to_pil_image(image)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("padding", "channels", "size"), [(4, 3, (32, 32)), (1, 1, (8, 8)), (2, 3, (5, 9))]
)
def test_padded_crops_and_flips_are_pillows(
    padding: int, channels: int, size: tuple[int, int], memory_format: torch.memory_format
) -> None:
    n = 64
    images = pictures(n, channels, *size).contiguous(memory_format=memory_format)
    rng = np.random.default_rng(1)
    offsets = rng.integers(0, 2 * padding + 1, (n, 2))
    flip_y, flip_x = rng.random(n) < 0.5, rng.random(n) < 0.5
    given = padded_crop(images, padding, offsets, flip_y, flip_x)
    for i in range(n):
        y, x = offsets[i].tolist()
        picture = ImageOps.expand(as_pil(images[i]), padding)
        picture = picture.crop((x, y, x + size[1], y + size[0]))
        picture = ImageOps.mirror(picture) if flip_x[i] else picture
        picture = ImageOps.flip(picture) if flip_y[i] else picture
        assert torch.equal(given[i], functional.pil_to_tensor(picture))


@pytest.mark.slow
def test_offsets_reach_every_corner_and_flips_follow_their_probability() -> None:
    images = pictures(1).expand(4000, -1, -1, -1)
    augment = BatchAugmentation(Augmentation(crop_padding=1, hflip=0.25), SMALL)
    given = augment(images, uniforms(0, 0, np.arange(4000), augment.n_draws))
    padded = torch.nn.functional.pad(images[0], (1,) * 4)
    share = {}
    for y in range(3):
        for x in range(3):
            window = padded[:, y : y + 32, x : x + 32]
            for flipped, wanted in ((False, window), (True, window.flip(2))):
                share[y, x, flipped] = float((given == wanted).all((1, 2, 3)).float().mean())
    assert sum(share.values()) == pytest.approx(1, abs=1e-6)
    for (_, _, flipped), value in share.items():
        assert value == pytest.approx((0.25 if flipped else 0.75) / 9, abs=0.02)


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_flips_that_are_certain_or_never(probability: float) -> None:
    images = pictures(8)
    knobs = Augmentation(crop_padding=0, scale=(1, 1), ratio=(1, 1), hflip=0, vflip=probability)
    augment = BatchAugmentation(knobs, SMALL)
    given = augment(images, uniforms(0, 0, np.arange(8), augment.n_draws))
    assert torch.equal(given, images.flip(2) if probability else images)


ORDERS = ["bcs", "bsc", "cbs", "csb", "sbc", "scb"]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("strength", [0.4, 1.5])
def test_colors_are_blended_as_pillow_does(strength: float, channels: int) -> None:
    n = 60
    images = pictures(n, channels)
    draws = np.random.default_rng(2).random((n, 4))
    before = images.clone()
    given = jitter_colors(images, strength, draws)
    assert torch.equal(images, before)
    changes = {
        "b": ImageEnhance.Brightness,
        "c": ImageEnhance.Contrast,
        "s": ImageEnhance.Color,
    }
    low = max(0, 1 - strength)
    for i in range(n):
        picture = as_pil(images[i])
        factors = dict(zip("bcs", low + (1 + strength - low) * draws[i, 1:], strict=True))
        for letter in ORDERS[int(6 * draws[i, 0])]:
            picture = changes[letter](picture).enhance(factors[letter])
        difference = given[i].int() - functional.pil_to_tensor(picture).int()
        assert int(difference.abs().max()) <= 1
        assert float((difference != 0).float().mean()) < 0.001  # a product rounded otherwise


def test_no_jitter_takes_no_draws() -> None:
    plain = BatchAugmentation(Augmentation(), SMALL)
    assert plain.n_draws == 4
    assert BatchAugmentation(Augmentation(color_jitter=0.0), SMALL).n_draws == 4
    assert BatchAugmentation(Augmentation(color_jitter=0.1), SMALL).n_draws == 8


def test_what_pads_in_batches() -> None:
    assert pads_in_batches(Augmentation(), SMALL)
    assert not pads_in_batches(Augmentation(aa="rand-m9"), SMALL)
    assert not pads_in_batches(Augmentation(crop_padding=0), SMALL)
    assert not pads_in_batches(Augmentation(), replace(SMALL, input_size=(3, 224, 224)))


def test_nothing_is_computed_in_float64(no_float64) -> None:
    random = np.random.default_rng(0)
    images = torch.from_numpy(random.integers(0, 256, (5, 3, 8, 8), dtype=np.uint8))
    augment = BatchAugmentation(Augmentation(color_jitter=0.4, crop_padding=2), SMALL)
    draws = random.random((5, augment.n_draws))
    wanted = augment(images, draws)
    with no_float64:
        assert torch.equal(augment(images, draws), wanted)
