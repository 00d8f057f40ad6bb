"""What happens to one image before the network sees it: `pictures.Fit`, or timm's augmentation.

Small images are padded and cropped in training, as every CIFAR recipe does, not enlarged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from timm.data import create_transform
from timm.data.transforms import MaybePILToTensor
from torch import Tensor
from torchvision import transforms

from irbin.pictures import Fit
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


def padding_of(augmentation: Augmentation, preprocessing: Preprocessing) -> int:
    """Border in pixels before a random crop; 0 crops and resizes at random instead."""
    if augmentation.crop_padding == "auto":
        return 4 if preprocessing.is_small else 0
    return augmentation.crop_padding


def eval_transform(preprocessing: Preprocessing) -> Transform:
    """Resize and centre crop as timm evaluates; nothing for small images of the right size.

    Unless `preprocessing.small_as_is` is False: then timm's crop is taken at any size.
    """
    return _compose([Fit(preprocessing), MaybePILToTensor()])


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
        first[:1] = [Fit(replace(preprocessing, small_as_is=True)), shift]
    return _compose([*first, *policy.transforms, MaybePILToTensor()])


def _compose(steps: list[Any]) -> Transform:
    composed: Transform = transforms.Compose(steps)
    return composed
