from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from irbin.html.thumbnails import SIDE, picture


def decoded(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (7, 9), (64, 64)])
def test_a_small_image_keeps_every_pixel(size, channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, channels), dtype=np.uint8)
    made = picture(pixels, "a.png", ("said",))
    again = np.asarray(decoded(made.uri))
    assert np.array_equal(again.reshape(pixels.shape), pixels)
    assert (made.size, made.small) == (size[::-1], True)


@pytest.mark.parametrize("size", [(65, 65), (224, 224), (65, 500)])
def test_a_large_image_becomes_a_few_kilobytes(size) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    made = picture(pixels, "a.png", ())
    assert max(made.size) <= SIDE
    assert len(made.uri) < 20_000  # noise is the worst case
    assert not made.small
    assert made == picture(pixels, "a.png", ())


def test_no_pixels_leave_the_words() -> None:
    assert picture(None, "a.png", ["x"]).uri == ""
