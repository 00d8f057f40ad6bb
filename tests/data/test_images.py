from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from irbin.data.images import (
    Augmentation,
    eval_transform,
    fit_transform,
    train_transform,
)
from irbin.errors import DataError
from irbin.records.options import Preprocessing

SMALL = Preprocessing((3, 32, 32), (0.5,) * 3, (0.25,) * 3, "bicubic", 0.875)
LARGE = Preprocessing((3, 128, 128), (0.5,) * 3, (0.25,) * 3, "bicubic", 0.875)
STILL = Augmentation(hflip=0.0, crop_padding=0, scale=(1.0, 1.0), ratio=(1.0, 1.0))


def picture(height: int, width: int, mode: str = "RGB") -> Image.Image:
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return Image.fromarray(pixels)


def pixels_of(image: Image.Image) -> torch.Tensor:
    array = np.array(image)
    return torch.from_numpy(array if array.ndim == 3 else array[..., None]).permute(2, 0, 1)


@pytest.mark.parametrize(("channels", "side"), [(3, 32), (1, 28), (3, 96), (3, 8)])
@pytest.mark.parametrize("crop_pct", [1.0, 0.875])
def test_evaluation_at_the_native_size_changes_no_pixel(
    channels: int, side: int, crop_pct: float
) -> None:
    preprocessing = replace(SMALL, input_size=(channels, side, side), crop_pct=crop_pct)
    image = picture(side, side, "RGB" if channels == 3 else "L")
    given = eval_transform(preprocessing)(image)
    assert given.dtype == torch.uint8
    assert torch.equal(given, pixels_of(image))


def test_large_images_are_resized_and_cropped_as_timm_does() -> None:
    image = picture(128, 128)
    given = eval_transform(LARGE)(image)
    enlarged = image.resize((146, 146), Image.Resampling.BICUBIC)  # 128 / 0.875
    assert torch.equal(given, pixels_of(enlarged.crop((9, 9, 137, 137))))


def test_images_of_another_size_are_brought_to_the_input_size() -> None:
    for height, width in ((28, 28), (40, 60), (32, 33)):
        assert eval_transform(SMALL)(picture(height, width)).shape == (3, 32, 32)
    wide = replace(SMALL, input_size=(3, 24, 32))
    assert eval_transform(wide)(picture(100, 90)).shape == (3, 24, 32)


def test_small_images_are_padded_by_four_and_cropped() -> None:
    image = picture(32, 32)
    transform = train_transform(SMALL, Augmentation(hflip=0.0))
    padded = torch.nn.functional.pad(pixels_of(image), (4, 4, 4, 4))
    windows = {
        padded[:, y : y + 32, x : x + 32].numpy().tobytes() for y in range(9) for x in range(9)
    }
    crops = [transform(image) for _ in range(40)]
    assert all(crop.numpy().tobytes() in windows for crop in crops)
    assert len({crop.numpy().tobytes() for crop in crops}) > 5


def test_padding_of_zero_crops_and_resizes() -> None:
    image = picture(32, 32)
    assert torch.equal(train_transform(SMALL, STILL)(image), pixels_of(image))
    zoomed = train_transform(SMALL, replace(STILL, scale=(0.2, 0.3)))(image)
    assert zoomed.shape == (3, 32, 32)
    assert not torch.equal(zoomed, pixels_of(image))


def test_auto_pads_small_inputs_only() -> None:
    assert SMALL.is_small
    assert replace(SMALL, input_size=(3, 96, 96)).is_small
    assert not replace(SMALL, input_size=(3, 97, 96)).is_small
    names = [type(step).__name__ for step in train_transform(SMALL, Augmentation()).transforms]
    assert "RandomCrop" in names
    names = [type(step).__name__ for step in train_transform(LARGE, Augmentation()).transforms]
    assert "RandomCrop" not in names


def test_flips_policy_and_jitter_are_applied() -> None:
    image = picture(32, 32)
    flipped = train_transform(SMALL, replace(STILL, hflip=1.0))(image)
    assert torch.equal(flipped, pixels_of(image).flip(2))
    assert torch.equal(
        train_transform(SMALL, replace(STILL, vflip=1.0))(image), pixels_of(image).flip(1)
    )
    for change in ({"aa": "rand-m9-n3"}, {"color_jitter": 0.9}):
        changed = train_transform(SMALL, replace(STILL, **change))
        # a policy leaves an image alone once in eight draws: never forty times
        assert not all(torch.equal(changed(image), pixels_of(image)) for _ in range(40))


def test_timms_own_crop_at_a_small_size_is_asked_for() -> None:
    image = picture(32, 32)
    timms = replace(SMALL, small_as_is=False)
    enlarged = image.resize((36, 36), Image.Resampling.BICUBIC)  # 32 / 0.875
    assert torch.equal(eval_transform(timms)(image), pixels_of(enlarged.crop((2, 2, 34, 34))))
    assert torch.equal(fit_transform(timms)(image), pixels_of(image))  # training moves it itself
    still = replace(STILL, crop_padding=1)
    assert train_transform(timms, still)(image).shape == (3, 32, 32)


@pytest.mark.parametrize(
    ("mode", "size"), [("center", (1, 65535)), ("center", (65535, 1)), ("border", (65535, 1))]
)
def test_needles_are_refused_before_they_are_resized(mode: str, size: tuple[int, int]) -> None:
    """Of a few hundred bytes would become gigabytes, or nothing."""
    for shape in ((3, 128, 128), (3, 100, 40)):
        how = replace(LARGE, input_size=shape, crop_mode=mode)
        with pytest.raises(
            DataError, match=r"too narrow to be resized: [\d,]+×[\d,]+ pixels would"
        ):
            eval_transform(how)(Image.new("RGB", size))
    squashed = eval_transform(replace(LARGE, crop_mode="squash"))
    assert squashed(Image.new("RGB", size)).shape == (3, 128, 128)


@pytest.mark.parametrize("size", [(1, 200), (200, 1), (64, 64), (1, 1), (33, 32)])
@pytest.mark.parametrize("mode", ["center", "border", "squash"])
def test_narrow_images_that_can_be_resized_are(mode: str, size: tuple[int, int]) -> None:
    how = replace(LARGE, crop_mode=mode)
    assert eval_transform(how)(Image.new("RGB", size)).shape == (3, 128, 128)


@pytest.mark.parametrize(("channels", "mean"), [(1, (0.2,)), (3, (0.1, 0.2, 0.6))])
def test_borders_have_the_networks_mean(channels: int, mean: tuple[float, ...]) -> None:
    how = Preprocessing((channels, 128, 128), mean, (0.25,) * channels, "bilinear", 1.0, "border")
    given = eval_transform(how)(picture(64, 128, "RGB" if channels == 3 else "L"))
    for y in (0, 127):
        assert given[:, y, 64].tolist() == [round(255 * value) for value in mean]
