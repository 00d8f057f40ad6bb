"""Images of a data set, small enough to stand in a page by the dozen."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from irbin.html.blocks import Picture

SMALL = 64
"""Pixels up to which an image is kept as it is, and shown enlarged."""
SIDE = 128
"""Pixels of the longer side of others."""
_QUALITY = 80


def picture(pixels: NDArray[np.uint8] | None, name: str, lines: Sequence[str]) -> Picture:
    """An image with what was said of it.

    Args:
        pixels: (height, width, channels) with 1 or 3 channels; None where the data set gives none.
        name: of the file.
        lines: below it.
    """
    if pixels is None:
        return Picture("", (0, 0), False, name, tuple(lines))
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    is_small = max(image.size) <= SMALL
    out = io.BytesIO()
    if is_small:
        image.save(out, "PNG", optimize=True)
    else:
        image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        image.save(out, "JPEG", quality=_QUALITY)
    kind = "png" if is_small else "jpeg"
    encoded = base64.b64encode(out.getvalue()).decode()
    return Picture(f"data:image/{kind};base64,{encoded}", image.size, is_small, name, tuple(lines))
