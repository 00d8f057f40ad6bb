from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from timm.data import create_transform

from irbin.errors import DataError, UsageError
from irbin.pictures import Fit, image_mode, in_mode, pixels_of, read_image
from irbin.records.feeding import CROP_MODES, INTERPOLATIONS
from irbin.records.options import Preprocessing

SMALL = Preprocessing((3, 32, 32), (0.5,) * 3, (0.25,) * 3, "bicubic", 0.875)


def picture(height: int, width: int, mode: str = "RGB") -> Image.Image:
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return Image.fromarray(pixels)


sides = st.integers(1, 70)


@given(
    image=st.tuples(sides, sides),
    size=st.tuples(sides, sides) | sides.map(lambda side: (side, side)),
    channels=st.sampled_from([1, 3]),
    crop_pct=st.sampled_from([0.5, 0.875, 0.9, 1.0, 1.2]),
    crop_mode=st.sampled_from(CROP_MODES),
    interpolation=st.sampled_from(INTERPOLATIONS),
)
@settings(max_examples=200, deadline=None)
def test_pixels_are_those_of_timms_transform(
    image: tuple[int, int],
    size: tuple[int, int],
    channels: int,
    crop_pct: float,
    crop_mode: str,
    interpolation: str,
) -> None:
    """But of images of the network's own small size, which are left as they are."""
    assume(min(size) >= crop_pct)  # timm divides by zero there
    mean = (0.1, 0.5, 0.9)[:channels]
    how = Preprocessing(
        (channels, *size), mean, (0.25,) * channels, interpolation, crop_pct, crop_mode, False
    )
    timms = create_transform(
        how.input_size,
        interpolation=interpolation,
        crop_pct=crop_pct,
        crop_mode=crop_mode,
        mean=mean,
        use_prefetcher=True,
    )
    one = picture(*image, "RGB" if channels == 3 else "L")
    try:
        found = pixels_of(Fit(how)(one))
    except DataError:  # a side of no pixel: timm's own error
        with pytest.raises(ValueError, match="height and width must be > 0"):
            timms(one)
        return
    wanted = timms(one)
    assert found.shape == (*size, channels)
    assert np.array_equal(found, np.moveaxis(np.asarray(wanted), 0, -1))


@pytest.mark.parametrize("channels", [0, 2, 4])
def test_channels_that_no_image_has_are_refused(channels: int) -> None:
    with pytest.raises(UsageError, match=f"expected 1 or 3 image channels, got {channels}"):
        image_mode(replace(SMALL, input_size=(channels, 32, 32)))


LEVELS = np.array([[0, 255, 256], [4096, 32768, 65535]], np.uint16)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("kind", ["PNG", "PPM", "TIFF"])
def test_of_16_bits_the_upper_8_are_taken(kind: str, mode: str) -> None:
    stream = io.BytesIO()
    Image.fromarray(LEVELS).save(stream, kind)
    with Image.open(stream) as image:
        read = in_mode(image, mode)
    assert read.mode == mode
    expected = pixels_of(Image.fromarray((LEVELS >> 8).astype(np.uint8)).convert(mode))
    assert np.array_equal(pixels_of(read), expected)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_pixels_of_32_bits_are_refused(dtype: type) -> None:
    stream = io.BytesIO()
    Image.fromarray(LEVELS.astype(dtype)).save(stream, "TIFF")
    with Image.open(stream) as image, pytest.raises(DataError, match=r"32 bits \(TIFF\)"):
        in_mode(image, "RGB")


def opened(data: bytes, mode: str = "RGB") -> Image.Image:
    return read_image(io.BytesIO(data), mode)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("size", [(0, 4), (4, 0), (0, 0)])
def test_images_without_pixels_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(DataError, match=rf"without pixels \({size[0]}×{size[1]}\)"):
        in_mode(Image.new("L", size), "RGB")


def test_no_program_is_started_to_draw_an_image() -> None:
    """Pillow knows an EPS file by its content, under any name, and runs Ghostscript on it."""
    text = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
    with pytest.raises(DataError, match="an EPS file, which a program would have to draw"):
        opened(text)


def test_what_pillow_warns_of_is_no_warning_of_ours() -> None:
    palette = picture(8, 8).convert("P")
    assert opened(saved(palette, "PNG", transparency=bytes(range(256)))).mode == "RGB"


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_orientation_is_left_to_whoever_made_the_data_set(orientation: int) -> None:
    """As timm and torchvision leave it: networks were trained so."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert opened(saved(picture(8, 20), "PNG", exif=exif.tobytes())).size == (20, 8)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LA", "RGBA", "P", "1"])
def test_all_modes_of_pixels_become_the_networks(mode: str) -> None:
    data = saved(picture(8, 20).convert(mode), "TIFF")
    assert [opened(data, found).mode for found in ("RGB", "L")] == ["RGB", "L"]


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_turned_upright_where_that_is_asked_for(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = picture(8, 20)
    data = saved(stored, "PNG", exif=exif.tobytes())
    turned = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_270}
    turned[8] = Image.Transpose.ROTATE_90
    wanted = stored.transpose(turned[orientation]) if orientation in turned else stored
    found = read_image(io.BytesIO(data), "RGB", upright=True)
    assert np.array_equal(pixels_of(found), pixels_of(wanted))
