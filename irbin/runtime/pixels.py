"""Images as bytes: what is taken, and how they are normalized where no kernel reads them so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irbin.errors import UsageError
from irbin.messages import counted
from irbin.program.program import Program
from irbin.program.types import fixed
from irbin.records.options import Preprocessing
from irbin.runtime.arrays import Array, dtype_name, is_shaped, is_tensor
from irbin.runtime.layers import Normalization

Pixels = NDArray[np.uint8]
"""(batch, height, width, channels)."""


def pixels_of(program: Program, images: Any) -> Pixels:
    """Images of bytes as a contiguous array.

    Args:
        program: whose images they are.
        images: uint8 (batch, height, width, channels), an array or a tensor on any device.

    Raises:
        UsageError: they are something else; says what to do.
    """
    if not is_shaped(images):
        raise UsageError(
            "`images`: expected bytes, a NumPy array or a tensor of uint8, got "
            f"{type(images).__name__}"
        )
    if is_tensor(images):
        from irbin.runtime.given import refuse_valueless

        refuse_valueless(images)
    if dtype_name(images) != "uint8":
        raise UsageError(
            f"`images`: expected bytes (uint8), got {dtype_name(images)}; give the network itself "
            "floating images, normalized and channels first: `model(images)`"
        )
    _check_shape(_taken(program), tuple(images.shape))
    if is_tensor(images):
        images = images.detach().to("cpu").numpy()
    return np.ascontiguousarray(images)


def normalization_of(preprocessing: Preprocessing, n_channels: int) -> Normalization:
    """The mean and deviation of each channel; one number is meant for all.

    Raises:
        UsageError: there are others than channels.
    """
    made = [_each(values, n_channels) for values in (preprocessing.mean, preprocessing.std)]
    if any(len(values) != n_channels for values in made):
        raise UsageError(
            f"the manifest's normalization is of {counted(len(preprocessing.mean), 'channel')}, "
            f"images have {n_channels}; give `mean=` and `std=` when the network is exported, or "
            "floating images to the network itself"
        )
    return Normalization(*made)


def normalized(pixels: Pixels, normalization: Normalization) -> Array:
    """What a network reads, as loaders compute it: float32 (batch, channels, height, width)."""
    mean, std = (np.float32(255) * np.array(values, np.float32) for values in normalization)
    with np.errstate(all="ignore"):  # a deviation of 0 gives infinities, as in loaders
        floats = (pixels.astype(np.float32) - mean) * (np.float32(1) / std)
    in_planes: Array = floats.transpose(0, 3, 1, 2)
    return in_planes


def n_channels(program: Program) -> int:
    """Of the images that a program takes."""
    return _taken(program)[-1]


def _taken(program: Program) -> tuple[int, int, int]:
    """(height, width, channels)."""
    ((_, kind),) = program.inputs.items()
    if len(kind.shape) != 4:
        raise UsageError(
            f"expected a network of images to give bytes to, got one that takes {kind}"
        )
    channels, height, width = (fixed(size) for size in kind.shape[1:])
    return height, width, channels


def _check_shape(wanted: tuple[int, int, int], shape: tuple[int, ...]) -> None:
    height, width, channels = wanted
    if len(shape) == 4 and shape[1:] == wanted:
        return
    hint = ""
    if len(shape) == 4 and shape[1:] == (channels, height, width):
        hint = "; channels come last: give `images.permute(0, 2, 3, 1)` of a tensor, "
        hint += "`images.transpose(0, 2, 3, 1)` of an array"
    elif shape == wanted:
        hint = "; give a batch: `images[None]`"
    raise UsageError(
        f"`images`: expected bytes of shape (N, {height}, {width}, {channels}), got {shape}{hint}"
    )


def _each(values: Sequence[float], n: int) -> tuple[float, ...]:
    return tuple(values) * n if len(values) == 1 else tuple(values)
