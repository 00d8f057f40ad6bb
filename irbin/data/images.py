"""What happens to one image before the network sees it: timm's transforms, gentle to small images.

timm's transforms are made for photographs: at 32×32 they enlarge by 1/crop_pct and cut the middle
out again, which blurs. Here a small image of the network's own size is left as it is at evaluation,
and training pads and crops it, as every CIFAR recipe does.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import IO, Any, Literal

import numpy as np
from PIL import Image
from timm.data import create_transform
from timm.data.transforms import MaybePILToTensor
from torch import Tensor
from torchvision import transforms

from irbin.errors import DataError, UsageError
from irbin.records.options import Preprocessing

Transform = Callable[[Any], Tensor]
"""From a PIL image to a uint8 tensor (channels, height, width)."""


@dataclass(frozen=True)
class Augmentation:
    """What training changes at random in one image; fields are the recipe's, names timm's."""

    crop_padding: int | Literal["auto"] = "auto"
    """Pixels of black border before a random crop at the input's size; `auto` is 4 for small inputs
    and 0 for others; 0 crops and resizes at random instead (`scale`, `ratio`)."""
    scale: tuple[float, float] = (0.08, 1.0)
    """Range of the share of the image's area that a random resized crop takes."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Range of the aspect ratio of a random resized crop."""
    hflip: float = 0.5
    """Probability of a horizontal flip."""
    flip: Literal["random", "alternating"] = "random"
    """`random` tosses a coin an epoch for each image, `alternating` one a run, and then flips every
    second epoch, see `order.alternating_flips`."""
    repeat_views: int = 0
    """Epochs after which each image's random changes begin again; 0 never repeats them."""
    vflip: float = 0.0
    """Probability of a vertical flip."""
    color_jitter: float | None = None
    """Strength of random brightness, contrast and saturation; None leaves colors alone."""
    aa: str | None = None
    """timm's policy string (`rand-m9-mstd0.5`, `original` …), None for no policy."""
    train_interpolation: str = "random"
    """Resampling filter of the random resized crop; `random` draws one an image."""

    def view(self, epoch: int) -> int:
        """What stands for the epoch in the key of an image's draws: epochs that show the same."""
        return epoch % self.repeat_views if self.repeat_views else epoch


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


def read_image(file: IO[bytes], mode: str) -> Image.Image:
    """Decodes a file as `L` or `RGB`; of several pictures the first.

    What Pillow warns of is left unsaid: an image that nobody can use is an error beside it.

    Raises:
        DataError: see `in_mode`.
        Exception: whatever Pillow's plug-ins raise: OSError, SyntaxError, struct.error …
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(file) as image:
            return in_mode(image, mode)


def in_mode(image: Image.Image, mode: str) -> Image.Image:
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
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in _SIXTEEN_BITS):
        pixels = np.asarray(image)
        upper = pixels if pixels.dtype.itemsize == 2 else pixels.clip(0, 65535)
        image = Image.fromarray((upper >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise DataError(
            f"pixels of 32 bits ({image.format or 'in memory'}), and nothing says which is white; "
            "store them with 8 or 16"
        )
    return image.convert(mode)


_SIXTEEN_BITS = ("PNG", "PPM")
"""Formats whose `I` holds 16 bits: what Pillow makes of them varies with its version."""


_PROGRAMS = ("EPS",)
"""Formats that Pillow knows by a file's content, not its name, and hands to Ghostscript."""


def padding_of(augmentation: Augmentation, preprocessing: Preprocessing) -> int:
    """Border in pixels before a random crop; 0 crops and resizes at random instead."""
    if augmentation.crop_padding == "auto":
        return 4 if preprocessing.is_small else 0
    return augmentation.crop_padding


class _Fit:
    """timm's resize and centre crop, of images that are no needles.

    Args:
        preprocessing: says the size, and how it is reached.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        _, height, width = preprocessing.input_size
        whole = create_transform(
            preprocessing.input_size,
            interpolation=preprocessing.interpolation,
            crop_pct=preprocessing.crop_pct,
            crop_mode=preprocessing.crop_mode,
            mean=preprocessing.mean,
            use_prefetcher=True,  # `border` fills with the mean
        )
        self.resize = transforms.Compose(whole.transforms[:-1])  # without the tensor at the end
        self.size = (width, height)
        self.passes = preprocessing.is_small and preprocessing.small_as_is
        self.crop_pct, self.mode = preprocessing.crop_pct, preprocessing.crop_mode

    def __call__(self, image: Any) -> Any:
        """The image at the network's size; a small one that has it already is left as it is.

        Raises:
            DataError: it is so narrow that resizing would make more pixels than Pillow reads, or
                none: 1×65,535 pixels with the shorter side at 256 are 4 billion.
        """
        if self.passes and image.size == self.size:
            return image
        if self.mode != "squash":  # else both sides are given
            self._check(*image.size)
        return self.resize(image)

    def _check(self, width: int, height: int) -> None:
        factors = (self.size[0] / width, self.size[1] / height)
        factor = (min(factors) if self.mode == "border" else max(factors)) / self.crop_pct
        wide, high = round(width * factor), round(height * factor)
        most = Image.MAX_IMAGE_PIXELS
        if not wide or not high or (most is not None and wide * high > most):
            raise DataError(
                f"an image too narrow to be resized: {width:,}×{height:,} pixels would become "
                f"{wide:,}×{high:,}"
            )


def eval_transform(preprocessing: Preprocessing) -> Transform:
    """Resize and centre crop as timm evaluates; nothing for small images of the right size.

    Unless `preprocessing.small_as_is` is False: then timm's crop is taken at any size.
    """
    return _compose([_Fit(preprocessing), MaybePILToTensor()])


def fit_transform(preprocessing: Preprocessing) -> Transform:
    """As `eval_transform`, for images that training then moves: small ones always pass."""
    return eval_transform(replace(preprocessing, small_as_is=True))


def native_transform() -> Transform:
    """The image as it is."""
    return _compose([MaybePILToTensor()])


def train_transform(preprocessing: Preprocessing, augmentation: Augmentation) -> Transform:
    """Random crop, flips, color jitter and policy, in timm's order; `alternating` flips follow."""
    crop, policy, _ = create_transform(
        preprocessing.input_size,
        is_training=True,
        separate=True,
        scale=augmentation.scale,
        ratio=augmentation.ratio,
        hflip=augmentation.hflip if augmentation.flip == "random" else 0.0,
        vflip=augmentation.vflip,
        color_jitter=augmentation.color_jitter,
        auto_augment=augmentation.aa,
        interpolation=augmentation.train_interpolation,
        mean=preprocessing.mean,
        std=preprocessing.std,
    )
    first: list[Any] = list(crop.transforms)
    padding = padding_of(augmentation, preprocessing)
    if padding > 0:
        shift = transforms.RandomCrop(preprocessing.input_size[1:], padding=padding)
        first[:1] = [_Fit(replace(preprocessing, small_as_is=True)), shift]
    return _compose([*first, *policy.transforms, MaybePILToTensor()])


def _compose(steps: list[Any]) -> Transform:
    composed: Transform = transforms.Compose(steps)
    return composed
