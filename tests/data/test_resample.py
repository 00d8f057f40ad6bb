from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from timm.data.transforms import RandomResizedCropAndInterpolation
from torchvision.transforms import functional

from irbin.data.resample import draw_boxes, n_box_draws, resized_crop

SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
KINDS = (functional.InterpolationMode.BILINEAR, functional.InterpolationMode.BICUBIC)


@pytest.mark.parametrize("size", [(32, 32), (12, 9), (40, 64)], ids=["same", "smaller", "larger"])
@pytest.mark.parametrize("channels", [1, 3])
def test_boxes_are_resized_as_pillow_does(size: tuple[int, int], channels: int) -> None:
    n, height, width = 40, 32, 32
    draws = np.random.default_rng(0).random((n, n_box_draws()))
    images = np.random.default_rng(1).integers(0, 256, (n, channels, height, width), np.uint8)
    boxes, filters = draw_boxes(draws, (height, width), SCALE, RATIO, (0, 1))
    flip_y, flip_x = draws[:, 0] < 0.5, draws[:, 1] < 0.5
    found = resized_crop(torch.from_numpy(images), boxes, filters, size, flip_y, flip_x)
    assert found.shape == (n, channels, *size)
    for i in range(n):
        picture = Image.fromarray(images[i].transpose(1, 2, 0).squeeze())
        picture = functional.resized_crop(picture, *boxes[i].tolist(), size, KINDS[filters[i]])
        picture = functional.vflip(picture) if flip_y[i] else picture
        picture = functional.hflip(picture) if flip_x[i] else picture
        assert torch.equal(found[i], functional.pil_to_tensor(picture))


@pytest.mark.slow
@given(
    sizes=st.tuples(*[st.integers(1, 70)] * 4),
    number=st.integers(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_size_has_pillows_bytes(
    sizes: tuple[int, int, int, int], number: int, seed: int
) -> None:
    height, width, *size = sizes
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    expected = functional.resize(Image.fromarray(image), size, KINDS[number])
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
    box, no = np.array([[0, 0, height, width]]), np.array([False])
    resized = resized_crop(pixels, box, np.array([number]), (size[0], size[1]), no, no)
    assert torch.equal(resized[0], functional.pil_to_tensor(expected))


@pytest.mark.parametrize(
    "sizes",
    [
        (64, 8, 32, 32),
        (8, 64, 32, 32),
        (46, 30, 26, 20),
        (46, 30, 25, 20),
        (20, 4, 14, 3),
        (58, 40, 6, 11),
        (9, 28, 33, 40),
        (1, 1, 5, 5),
        (70, 1, 1, 1),
    ],
)
@pytest.mark.parametrize("number", [0, 1])
def test_the_two_passes_have_pillows_order(sizes: tuple[int, ...], number: int) -> None:
    height, width, *size = sizes
    image = np.random.default_rng(3).integers(0, 256, (height, width), np.uint8)
    expected = functional.resize(Image.fromarray(image), size, KINDS[number])
    box, no = np.array([[0, 0, height, width]]), np.array([False])
    pixels = torch.from_numpy(image)[None, None]
    resized = resized_crop(pixels, box, np.array([number]), (size[0], size[1]), no, no)
    assert torch.equal(resized[0], functional.pil_to_tensor(expected))


def test_the_whole_image_at_its_own_size_is_untouched() -> None:
    images = torch.randint(0, 256, (2, 3, 7, 5), dtype=torch.uint8)
    boxes, no = np.array([[0, 0, 7, 5]] * 2), np.array([False, False])
    assert torch.equal(resized_crop(images, boxes, np.array([0, 1]), (7, 5), no, no), images)


@pytest.mark.parametrize("size", [(32, 32), (30, 90), (90, 30), (1, 1)])
def test_boxes_lie_in_the_image(size: tuple[int, int]) -> None:
    draws = np.random.default_rng(2).random((500, n_box_draws()))
    draws[0], draws[1] = 0, 1 - 2**-53
    boxes, filters = draw_boxes(draws, size, SCALE, RATIO, (0, 1))
    assert boxes.min() >= 0
    assert boxes[:, 2:].min() >= 1
    assert (boxes[:, :2] + boxes[:, 2:] <= np.array(size)).all()
    assert set(filters) == {0, 1}


def test_boxes_are_distributed_as_timms() -> None:
    draws = np.random.default_rng(3).random((20_000, n_box_draws()))
    boxes, _ = draw_boxes(draws, (32, 48), (0.2, 1.0), RATIO, (0,))
    random.seed(0)
    image = Image.new("L", (48, 32))
    crop = RandomResizedCropAndInterpolation.get_params
    expected = np.array([crop(image, (0.2, 1.0), RATIO) for _ in range(20_000)])
    assert np.allclose(boxes.mean(0), expected.mean(0), atol=0.25)
    assert np.allclose(boxes.std(0), expected.std(0), atol=0.25)


def test_where_no_box_fits_the_middle_is_taken() -> None:
    draws = np.zeros((1, n_box_draws()))
    draws[:, :10] = 0.999  # nearly the whole area, at a ratio that does not fit
    for size, box in (((10, 90), [0, 38, 10, 13]), ((90, 10), [38, 0, 13, 10])):
        boxes, _ = draw_boxes(draws, size, (0.9, 1.0), RATIO, (0,))
        assert boxes.tolist() == [box]
        assert box == list(_timms_middle(size))


def _timms_middle(size: tuple[int, int]) -> tuple[int, ...]:
    height, width = size
    image = Image.new("L", (width, height))
    # an area of more than the image never fits
    return RandomResizedCropAndInterpolation.get_params(image, (2.0, 2.0), RATIO)


def test_apples_gpus_which_have_no_float64_leave_it_to_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (2, 3, 8, 8), np.uint8))
    boxes, filters, no = np.array([[1, 2, 6, 5], [0, 0, 8, 8]]), np.array([0, 1]), np.zeros(2, bool)
    wanted = resized_crop(images, boxes, filters, (7, 5), no, no)
    there, to = torch.device("mps"), torch.Tensor.to
    monkeypatch.setattr(
        torch.Tensor, "to", lambda x, where, **k: x if where == there else to(x, where, **k)
    )
    fake: Any = SimpleNamespace(device=there, cpu=lambda: images)
    assert torch.equal(resized_crop(fake, boxes, filters, (7, 5), no, no), wanted)
