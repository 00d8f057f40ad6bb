"""timm's training augmentation on whole batches of uint8 images, on any device.

Padded crops and flips move pixels only. A random resized crop is two matrix products with Pillow's
own weights. Colors are blended as Pillow blends them, truncation included. What an image gets
follows from its row of uniform numbers alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from irbin.data.images import Augmentation, padding_of
from irbin.data.order import Indices, alternating_flips, uniforms
from irbin.data.resample import FILTERS, draw_boxes, n_box_draws, resized_crop
from irbin.data.sending import sent
from irbin.records.options import Preprocessing

Draws = npt.NDArray[np.float64]


def pads_in_batches(augmentation: Augmentation, preprocessing: Preprocessing) -> bool:
    """Whether images of the network's size are all that is needed: no policy, no random resize."""
    return not augmentation.aa and padding_of(augmentation, preprocessing) > 0


class BatchAugmentation:
    """Crop, flips and color jitter of a batch, as the recipe's knobs say.

    Args:
        augmentation: without a policy (`aa`), which works image by image.
        preprocessing: the network's input size.

    Calling it maps images (batch, channels, height, width) uint8 and draws (batch, `n_draws`) in
    [0, 1) to images (batch, channels, network height, network width) uint8.
    """

    def __init__(self, augmentation: Augmentation, preprocessing: Preprocessing) -> None:
        self._knobs = augmentation
        self._size = preprocessing.input_size[1:]
        self._padding = padding_of(augmentation, preprocessing)
        self._n_crop = 2 if self._padding > 0 else n_box_draws()
        self._jitters = bool(augmentation.color_jitter)

    @property
    def n_draws(self) -> int:
        """Uniform numbers for an image: crop, flips, then jitter's order and three strengths."""
        return self._n_crop + 2 + 4 * self._jitters

    def drawn(self, seed: int, epoch: int, indices: Indices) -> Draws:
        """What images are augmented with: (images, `n_draws`).

        Args:
            seed: of the data set.
            epoch: counts from 0.
            indices: (images,), theirs in the data set.
        """
        view = self._knobs.view(epoch)
        draws = uniforms(seed, view, indices, self.n_draws)
        if self._knobs.flip == "alternating":
            flips = alternating_flips(seed, view, indices)
            draws[:, self._n_crop] = np.where(flips, 0.0, self._knobs.hflip)
        return draws

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """Augments a batch."""
        crop, flips, jitter = np.split(draws, [self._n_crop, self._n_crop + 2], axis=1)
        flip_x, flip_y = flips[:, 0] < self._knobs.hflip, flips[:, 1] < self._knobs.vflip
        if self._padding > 0:
            n_offsets = 2 * self._padding + 1
            offsets = (crop * n_offsets).astype(np.int64)  # (batch, 2): down, right
            images = padded_crop(images, self._padding, offsets, flip_y, flip_x)
        else:
            boxes, filters = draw_boxes(
                crop,
                images.shape[2:],
                self._knobs.scale,
                self._knobs.ratio,
                FILTERS[self._knobs.train_interpolation],
            )
            images = resized_crop(images, boxes, filters, self._size, flip_y, flip_x)
        if not self._jitters:
            return images
        return jitter_colors(images, float(self._knobs.color_jitter or 0), jitter)


def padded_crop(
    images: Tensor,
    padding: int,
    offsets: npt.NDArray[np.int64],
    flip_y: npt.NDArray[np.bool_],
    flip_x: npt.NDArray[np.bool_],
) -> Tensor:
    """Windows of the images' own size out of images with a black border, some of them flipped.

    Args:
        images: (batch, channels, height, width) uint8; channels-last is faster.
        padding: width of the border.
        offsets: (batch, 2) of each window's top left corner in the padded image: down, right.
        flip_y: (batch,) upside down.
        flip_x: (batch,) left and right exchanged.

    Returns:
        (batch, channels, height, width) uint8, channels-last in memory.
    """
    n, channels, height, width = images.shape
    padded_height, padded_width = height + 2 * padding, width + 2 * padding
    where = np.column_stack([offsets, flip_y, flip_x]).astype(np.int64)
    down, right, turns, mirrors = sent(where, images.device).unbind(1)
    rows = _positions(height, down, turns)
    rows += torch.arange(0, n * padded_height, padded_height, device=images.device)[:, None]
    columns = _positions(width, right, mirrors)
    places = rows[:, :, None] * padded_width + columns[:, None, :]  # (batch, height, width)
    padded = F.pad(images, (padding,) * 4).permute(0, 2, 3, 1)
    pixels = padded.reshape(n * padded_height * padded_width, channels)
    chosen = pixels.index_select(0, places.reshape(-1))
    return chosen.view(n, height, width, channels).permute(0, 3, 1, 2)


def _positions(size: int, offsets: Tensor, flips: Tensor) -> Tensor:
    """Which line of the padded image each line of the window is: (batch, size)."""
    there = torch.arange(size, device=offsets.device)
    return torch.where(flips[:, None] > 0, there.flip(0), there) + offsets[:, None]


def jitter_colors(images: Tensor, strength: float, draws: Draws) -> Tensor:
    """Brightness, contrast and saturation, as Pillow's `ImageEnhance`, in an order of its own.

    Args:
        images: (batch, 1 or 3, height, width) uint8.
        strength: factors lie in [max(0, 1 − strength), 1 + strength].
        draws: (batch, 4): one of the six orders, then a factor each.
    """
    low = max(0.0, 1 - strength)
    factors = low + (1 + strength - low) * draws[:, 1:]  # (batch, 3)
    factors = factors.astype(np.float32)  # here: not every device has float64
    orders = _ORDERS[(draws[:, 0] * len(_ORDERS)).astype(np.int64)]  # (batch, 3)
    images = images.clone()
    sorted_by = orders.argsort(axis=0, kind="stable")  # (batch, 3): in each turn, who has change 0…
    turns, strengths = sent(sorted_by, images.device), sent(factors, images.device)
    for turn in range(len(_CHANGES)):
        ends = np.bincount(orders[:, turn], minlength=len(_CHANGES)).cumsum().tolist()
        for number, (begin, end) in enumerate(zip([0, *ends], ends, strict=False)):
            if begin < end:
                chosen = turns[begin:end, turn]
                factor = strengths[chosen, number].view(-1, 1, 1, 1)
                images[chosen] = _CHANGES[number](images[chosen], factor)
    return images


def adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Blends with black; factor (batch, 1, 1, 1)."""
    return _blend(torch.zeros((), device=images.device), images, factor)


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Blends with the image's mean gray level, a whole number; factor (batch, 1, 1, 1)."""
    n_pixels = images.shape[2] * images.shape[3]
    total = _gray(images).sum((1, 2, 3), keepdim=True)
    mean = (2 * total + n_pixels).div(2 * n_pixels, rounding_mode="floor")  # rounds half up
    return _blend(mean.to(torch.float32), images, factor)


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Blends with the gray image; factor (batch, 1, 1, 1)."""
    return _blend(_gray(images).to(torch.float32), images, factor)


def _gray(images: Tensor) -> Tensor:
    """Pillow's luma in 16-bit fixed point: (batch, 1, height, width) int32."""
    if images.shape[1] == 1:
        return images.to(torch.int32)
    red, green, blue = images.to(torch.int32).unbind(1)
    return ((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16)[:, None]


def _blend(start: Tensor, images: Tensor, factor: Tensor) -> Tensor:
    """From `start` (factor 0) through the image (1) and beyond; truncated, as Pillow does."""
    mixed = start + factor * (images.to(torch.float32) - start)
    return mixed.clamp_(0, 255).to(torch.uint8)


_CHANGES: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
    adjust_brightness,
    adjust_contrast,
    adjust_saturation,
)
_ORDERS = np.array([[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]])
