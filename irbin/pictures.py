"""A picture, decoded and cut to a network's size: Pillow and NumPy alone, no torch.

What happens is timm's evaluation transform, gentle to small images: timm's is made for photographs,
at 32×32 it enlarges by 1/crop_pct and cuts the middle out again, which blurs. Here a small image of
the network's own size is left as it is.
"""

from __future__ import annotations

import math
import os
import warnings
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from irbin.errors import DataError, UsageError
from irbin.messages import first_line
from irbin.records.options import Preprocessing

FILE_TYPES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
"""Endings of pictures that a folder is searched for."""
HIDDEN = (".", "__MACOSX")
"""Beginnings of names that a folder's search passes over."""


def image_mode(preprocessing: Preprocessing) -> str:
    """PIL's name of what the network's channels hold.

    Raises:
        UsageError: neither 1 nor 3 channels.
    """
    channels = preprocessing.input_size[0]
    modes = {1: "L", 3: "RGB"}
    if channels not in modes:
        raise UsageError(f"`input_size`: expected 1 or 3 image channels, got {channels}")
    return modes[channels]


def read_image(file: IO[bytes], mode: str, *, upright: bool = False) -> Image.Image:
    """Decodes a file as `L` or `RGB`; of several pictures the first.

    What Pillow warns of is left unsaid: an image that nobody can use is an error beside it.

    Args:
        file: opened to be read.
        mode: see `image_mode`.
        upright: turned as the camera says that it was held.

    Raises:
        DataError: see `in_mode`.
        Exception: whatever Pillow's plug-ins raise: OSError, SyntaxError, struct.error …
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(file) as image:
            return in_mode(image, mode, upright=upright)


def in_mode(image: Image.Image, mode: str, *, upright: bool = False) -> Image.Image:
    """An image as `L` or `RGB`; of 16 bits a channel the upper 8 are taken.

    Pillow, asked for 8 bits, makes white of every value above 255.

    Raises:
        DataError: it has no pixels, or 32-bit numbers, of which nobody says how large they are, or
            a program would be started to decode it.
    """
    if image.format in _PROGRAMS:
        raise DataError(f"an {image.format} file, which a program would have to draw; store a PNG")
    if 0 in image.size:
        raise DataError(f"an image without pixels ({image.width}×{image.height})")
    turned = ImageOps.exif_transpose(image) if upright else image
    if turned.mode.startswith("I;16") or (turned.mode == "I" and image.format in _SIXTEEN_BITS):
        pixels = np.asarray(turned)
        upper = pixels if pixels.dtype.itemsize == 2 else pixels.clip(0, 65535)
        turned = Image.fromarray((upper >> 8).astype(np.uint8))
    elif turned.mode in ("I", "F"):
        raise DataError(
            f"pixels of 32 bits ({image.format or 'in memory'}), and nothing says which is white; "
            "store them with 8 or 16"
        )
    return turned.convert(mode)


_SIXTEEN_BITS = ("PNG", "PPM")
"""Formats whose `I` holds 16 bits: what Pillow makes of them varies with its version."""


_PROGRAMS = ("EPS",)
"""Formats that Pillow knows by a file's content, not its name, and hands to Ghostscript."""

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
    "lanczos": Image.Resampling.LANCZOS,
}


class Fit:
    """timm's resize and centre crop, of images that are no needles.

    Args:
        preprocessing: says the size, and how it is reached.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        channels, height, width = preprocessing.input_size
        self.size = (width, height)
        self.passes = preprocessing.is_small and preprocessing.small_as_is
        self.crop_pct, self.mode = preprocessing.crop_pct, preprocessing.crop_mode
        self.filter = _FILTERS[preprocessing.interpolation]
        self._scaled = tuple(max(1, math.floor(side / self.crop_pct)) for side in self.size)
        border = preprocessing.mean if self.mode == "border" else (0.0,)
        filled = tuple(round(255 * value) for value in border)
        self._fill: Any = filled * channels if len(filled) == 1 else filled
        if channels == 1:
            self._fill = filled[0]

    def __call__(self, image: Image.Image) -> Image.Image:
        """The image at the network's size; a small one that has it already is left as it is.

        Raises:
            DataError: it is so narrow that resizing would make more pixels than Pillow reads, or
                none: 1×65,535 pixels with the shorter side at 256 are 4 billion.
        """
        if self.passes and image.size == self.size:
            return image
        wide, high = self._resized(*image.size)
        most = Image.MAX_IMAGE_PIXELS
        if not wide or not high or (most is not None and wide * high > most):
            raise DataError(
                f"an image too narrow to be resized: {image.width:,}×{image.height:,} pixels would "
                f"become {wide:,}×{high:,}"
            )
        return self._cropped(image.resize((wide, high), self.filter))

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        """Before the crop: torchvision's truncation for square inputs, timm's rounding for others.

        Their arithmetic to the operation: an image may lie on the border of a pixel.
        """
        wide, high = self._scaled
        if self.mode == "squash":
            return wide, high
        if self.mode == "center" and wide == high:
            short, long = min(width, height), max(width, height)
            scaled = int(wide * long / short)
            return (wide, scaled) if width <= height else (scaled, wide)
        ratios = (height / high, width / wide)
        ratio = max(ratios) if self.mode == "border" else min(ratios)
        return round(width / ratio), round(height / ratio)

    def _cropped(self, image: Image.Image) -> Image.Image:
        width, height = self.size
        left, top = max(width - image.width, 0) // 2, max(height - image.height, 0) // 2
        if width > image.width or height > image.height:
            padded = (max(width, image.width), max(height, image.height))
            whole = Image.new(image.mode, padded, self._fill)
            whole.paste(image, (left, top))
            image = whole
        left, top = round((image.width - width) / 2), round((image.height - height) / 2)
        return image.crop((left, top, left + width, top + height))


def pixels_of(image: Image.Image) -> NDArray[np.uint8]:
    """Its pixels: uint8 (height, width, channels)."""
    pixels = np.asarray(image)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def opened(given: Any, mode: str, *, upright: bool = False) -> Image.Image:
    """A picture as `L` or `RGB`.

    Args:
        given: a file's name, a PIL image, or an array uint8 (height, width) or (height, width,
            channels) with 1, 3 or 4 channels.
        mode: see `image_mode`.
        upright: see `read_image`.

    Raises:
        UsageError: it is none of these.
        DataError: it cannot be decoded; the reason alone.
    """
    if isinstance(given, Image.Image):
        return in_mode(given, mode, upright=upright)
    if isinstance(given, np.ndarray):
        return in_mode(_of_array(given), mode)
    if not isinstance(given, str | os.PathLike):
        raise UsageError(
            "expected a picture (a file's name, a PIL image, or an array of bytes), got a "
            f"{type(given).__name__}"
        )
    try:
        with open(given, "rb") as file:
            return read_image(file, mode, upright=upright)
    except DataError:
        raise
    except Exception as error:  # Pillow's plug-ins raise anything
        raise DataError(first_line(error)) from error


def named_picture(given: Any, mode: str, *, upright: bool = False) -> Image.Image:
    """As `opened`; an error names the file.

    Raises:
        DataError, UsageError: see `opened`.
    """
    try:
        return opened(given, mode, upright=upright)
    except DataError as error:
        name = os.fspath(given) if isinstance(given, str | os.PathLike) else "a picture"
        raise DataError(f"expected an image that can be decoded, got {name}: {error}") from error


def called(given: Any, number: int) -> str:
    """What a picture is called: its file's name, or its number."""
    return os.fspath(given) if isinstance(given, str | os.PathLike) else str(number)


def _of_array(pixels: NDArray[Any]) -> Image.Image:
    shape = pixels.shape
    if pixels.dtype != np.uint8 or not (
        len(shape) == 2 or (len(shape) == 3 and shape[2] in _MODES)
    ):
        raise UsageError(
            "expected an array of bytes (uint8), (height, width) or (height, width, channels) with "
            f"1, 3 or 4 channels, got {pixels.dtype} {shape}"
        )
    if 0 in shape:
        raise DataError(f"an image without pixels ({'×'.join(map(str, shape[:2]))})")
    return Image.fromarray(pixels[:, :, 0] if len(shape) == 3 and shape[2] == 1 else pixels)


_MODES = (1, 3, 4)
"""Channels of an array that is a picture: gray, RGB, RGBA."""
