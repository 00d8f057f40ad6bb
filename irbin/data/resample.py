"""Random resized crops of a batch as matrix products with Pillow's resampling weights.

Every output line is a weighted sum of input lines, so a crop that is resized is
rows · image · columnsᵀ with matrices that are mostly zero. For the sizes that fit into memory as a
whole data set, a dense product costs less than any gather. Weights are Pillow's whole numbers, and
so are the sums: results have the same bytes.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from irbin.data.sending import sent

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

FILTERS = {"bilinear": (0,), "bicubic": (1,), "random": (0, 1)}
"""Filters (0 bilinear, 1 bicubic) that an image is given one of, by timm's name."""

_N_TRIES = 10


def n_box_draws() -> int:
    """Uniform numbers that `draw_boxes` takes for an image."""
    return 2 * _N_TRIES + 3


def draw_boxes(
    draws: Floats,
    size: tuple[int, ...],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    filters: tuple[int, ...],
) -> tuple[Numbers, Numbers]:
    """timm's random boxes: ten tries at an area and a ratio that fit, else the middle.

    Args:
        draws: (batch, `n_box_draws()`) in [0, 1): areas, ratios, top, left, filter.
        size: (height, width) of the images.
        scale: range of the share of the area.
        ratio: range of width / height.
        filters: numbers of the filters to choose from.

    Returns:
        Boxes (batch, 4): top, left, height, width; and the filter's number (batch,).
    """
    height, width = size
    area = height * width * (scale[0] + (scale[1] - scale[0]) * draws[:, :_N_TRIES])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = np.exp(low + (high - low) * draws[:, _N_TRIES : 2 * _N_TRIES])
    widths, heights = np.rint(np.sqrt(area * aspect)), np.rint(np.sqrt(area / aspect))
    fits = (widths <= width) & (heights <= height)  # (batch, tries)
    chosen = fits.argmax(1)[:, None]
    box = np.concatenate([np.take_along_axis(x, chosen, 1) for x in (heights, widths)], axis=1)
    box = np.maximum(box.astype(np.int64), 1)
    room = np.array([height, width]) - box + 1
    corner = (draws[:, 2 * _N_TRIES : 2 * _N_TRIES + 2] * room).astype(np.int64)
    none = ~fits.any(1)
    box[none], corner[none] = _middle(height, width, ratio)
    number = np.array(filters)[(draws[:, -1] * len(filters)).astype(np.int64)]
    return np.concatenate([corner, box], axis=1), number


def _middle(height: int, width: int, ratio: tuple[float, float]) -> tuple[Numbers, Numbers]:
    """The largest box in the middle whose ratio is allowed: its size and its corner."""
    box_height, box_width = height, width
    if width / height < ratio[0]:
        box_height = round(width / ratio[0])
    elif width / height > ratio[1]:
        box_width = round(height * ratio[1])
    box = np.array([box_height, box_width])
    return box, (np.array([height, width]) - box) // 2


def resized_crop(
    images: Tensor,
    boxes: Numbers,
    filters: Numbers,
    size: tuple[int, int],
    flip_y: Flags,
    flip_x: Flags,
) -> Tensor:
    """Boxes of the images, resized to the same bytes as Pillow does it, some of them flipped.

    Args:
        images: (batch, channels, height, width) uint8.
        boxes: (batch, 4): top, left, height, width.
        filters: (batch,) 0 for bilinear, 1 for bicubic.
        size: (height, width) of the result.
        flip_y: (batch,) upside down.
        flip_x: (batch,) left and right exchanged.

    Returns:
        (batch, channels, height, width) uint8.
    """
    device = images.device
    if device.type == "mps":  # it has no float64
        return resized_crop(images.cpu(), boxes, filters, size, flip_y, flip_x).to(device)
    what = np.column_stack([boxes, filters, flip_y, flip_x]).astype(np.float64)
    top, left, high, wide, cubic, turns, mirrors = sent(what, device)[:, :, None].unbind(1)
    rows = _weights(images.shape[2], top, high, size[0], cubic, turns)
    columns = _weights(images.shape[3], left, wide, size[1], cubic, mirrors)
    rows, columns = rows[:, None], columns.transpose(1, 2)[:, None]
    down_first = _down_first(boxes, size) & _newer_pillow()
    resized = torch.empty((*images.shape[:2], *size), dtype=torch.uint8, device=device)
    for turn in (False, True):
        mine = np.flatnonzero(down_first == turn)
        if not mine.size:
            continue
        chosen = sent(mine, device)
        pixels = images[chosen].double()
        if turn:  # each pass ends in whole numbers, so their order shows
            pixels = _rounded(_rounded(rows[chosen] @ pixels) @ columns[chosen])
        else:
            pixels = _rounded(rows[chosen] @ _rounded(pixels @ columns[chosen]))
        resized[chosen] = pixels.to(torch.uint8)
    return resized


def _down_first(boxes: Numbers, size: tuple[int, int]) -> Flags:
    """Which boxes Pillow resizes from top to bottom before it does from left to right: (batch,).

    Those that lose rows, and more than twice as many as columns. Found by comparing the two orders
    with what Pillow 13 gives for 3,000 sizes; the test does it again.
    """
    lost_rows, lost_columns = boxes[:, 2] - size[0], boxes[:, 3] - size[1]
    return (lost_rows > 0) & (lost_rows > 2 * lost_columns)


@cache
def _newer_pillow() -> bool:
    """Whether the Pillow installed knows the second order; older ones have the first one alone."""
    picture = Image.fromarray(_PROBE)
    resized = np.asarray(picture.resize((4, 2), Image.Resampling.BILINEAR))
    across = picture.resize((4, _PROBE.shape[0]), Image.Resampling.BILINEAR)
    return not np.array_equal(resized, np.asarray(across.resize((4, 2), Image.Resampling.BILINEAR)))


_PROBE = np.random.default_rng(0).integers(0, 256, (9, 3), np.uint8)
"""Pixels for which the two orders differ."""

_BITS = 22
"""Pillow's weights are whole numbers of 2**-22."""


def _rounded(sums: Tensor) -> Tensor:
    """From sums of pixels times whole weights, exact in float64, to pixels."""
    return sums.add_(1 << (_BITS - 1)).mul_(2.0**-_BITS).floor_().clamp_(0, 255)


def _weights(
    n_in: int, starts: Tensor, lengths: Tensor, n_out: int, cubic: Tensor, flips: Tensor
) -> Tensor:
    """How much of each input line goes into each output line: (batch, n_out, n_in) float64.

    1. Output line o lies at (o + ½) · step of the box, step = length / n_out input lines.
    2. Where lines are merged (step > 1), the filter is stretched by it.
    3. Lines outside the box count nothing; the others' weights are made to sum to 1, in order, as
       the last bit of a sum depends on it. Over an outer dimension CUDA adds in order, too.
    4. They become whole numbers of 2**-22.

    Args:
        n_in: lines of the image.
        starts: first line of each box, (batch, 1) float64, as all that follow.
        lengths: lines of each box.
        n_out: lines of the result.
        cubic: 1 for the bicubic filter, 0 for the bilinear one.
        flips: 1 where the lines of the result are in reverse order.
    """
    there = torch.arange(n_out, dtype=torch.float64, device=starts.device)
    lines = torch.where(flips > 0, there.flip(0), there) + 0.5  # (batch, n_out)
    steps = lengths / n_out  # (batch, 1)
    inside = torch.arange(n_in, dtype=torch.float64, device=starts.device) - starts
    outside = (inside < 0) | (inside >= lengths)  # (batch, n_in)
    distance = inside[:, None] - (lines * steps)[:, :, None] + 0.5
    distance = (distance * (1 / steps.clamp(min=1))[:, :, None]).abs_()
    weight = torch.where(cubic[:, :, None] > 0, _bicubic(distance), (1 - distance).clamp_(min=0))
    weight.masked_fill_(outside[:, None], 0)
    sums = weight.transpose(1, 2).contiguous().cumsum(1)[:, -1]  # (batch, n_out)
    weight = weight / sums[:, :, None]
    return (weight * 2.0**_BITS + torch.where(weight < 0, -0.5, 0.5)).trunc()


def _bicubic(x: Tensor) -> Tensor:
    """Keys' kernel with a = −½ at distances ≥ 0."""
    near = (1.5 * x - 2.5) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * -0.5
    return torch.where(x < 1, near, torch.where(x < 2, far, 0))
