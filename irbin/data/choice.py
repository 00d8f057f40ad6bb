"""Whether a run's images can be kept decoded, and where they fit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from irbin.data.batches import Images, Stream
from irbin.data.images import native_transform, padding_of
from irbin.data.memory import free_bytes
from irbin.data.resample import FILTERS
from irbin.data.streamed import common_size
from irbin.errors import UsageError
from irbin.launch import launched
from irbin.records.options import DataOptions

Least = Callable[[list[int]], list[int]]
"""Given what this process has of each, the least that one of all processes has."""

_SHARE = 4
"""`auto` takes at most one part in this many of what is free."""

UNEVEN = "they differ in size and are cropped at random before they are resized"
"""What keeps a folder of photographs from being cached."""


@dataclass(frozen=True)
class Choice:
    """What becomes of the images. Made by `choose`, read by `make_loaders`."""

    where: str = ""
    """`ram`, `device`, or '' to stream."""
    native: bool = False
    """Training images are kept at their own size."""
    reason: str = ""
    """Why they are streamed, after a colon; '' where nobody needs to be told."""


def choose(
    training: Images | Stream,
    validation: Images | Stream,
    options: DataOptions,
    device: torch.device,
    world_size: int,
    least: Least = list,
) -> Choice:
    """Where both splits are kept: the same in all processes, which would draw others elsewhere.

    Raises:
        UsageError: a cache was asked for that is not possible.
        DataError: an image that cannot be decoded.
    """
    if options.cache == "off":
        return Choice(reason=" (`cache='off'`)")
    obstacle = _obstacle(training) or _obstacle(validation)
    if obstacle:
        return refuse(options, obstacle)
    assert isinstance(training, Images)
    knobs = training.augmentation
    native = knobs is not None and padding_of(knobs, training.preprocessing) == 0
    size: tuple[int, ...] | None = training.preprocessing.input_size
    if native:
        size = common_size(training, native_transform(), options.workers)
    if size is None:
        return refuse(options, UNEVEN)
    n_bytes = len(training) * math.prod(size)
    n_bytes += len(validation) * math.prod(training.preprocessing.input_size)
    return _fit(options, n_bytes, native, device, world_size, least)


def _fit(
    options: DataOptions,
    n_bytes: int,
    native: bool,
    device: torch.device,
    world_size: int,
    least: Least = list,
) -> Choice:
    """The first place with room: `auto` leaves most of it free, who asks for one may fill it."""
    on_cuda = device.type == "cuda"
    # every process holds all images, first in RAM, which those of one machine share
    launch = launched()
    ram = free_bytes() // (launch.local_size if launch.size == world_size else world_size)
    on_device, ram = least([free_bytes(device) if on_cuda else 0, ram])
    room = {"device": on_device, "ram": ram}
    if ram:  # else the system does not tell
        room["device"] = min(room["device"], _SHARE * ram)
    if options.cache == "auto":
        for where, free in room.items():
            if n_bytes <= free // _SHARE:
                return Choice(where, native)
        return Choice(
            reason=f": decoded, they are {in_words(n_bytes)}, over a quarter of the free memory"
        )
    where = "device" if options.cache == "device" and on_cuda else "ram"
    if n_bytes > room[where]:
        raise UsageError(
            f"`cache={options.cache!r}`: expected room for {in_words(n_bytes)} of decoded images, "
            f"got {in_words(room[where])}; `cache='off'` streams them"
        )
    return Choice(where, native)


def refuse(options: DataOptions, obstacle: str) -> Choice:
    """Streams, unless a cache was asked for.

    Raises:
        UsageError: it was.
    """
    if options.cache == "auto":
        return Choice(reason=f": {obstacle}")
    raise UsageError(
        f"`cache={options.cache!r}`: the images cannot be kept decoded: {obstacle}; "
        "`cache='auto'` streams them"
    )


def _obstacle(dataset: Images | Stream) -> str:
    """Why a data set cannot be augmented in batches; '' if it can."""
    if isinstance(dataset, Stream):
        return f"`{dataset.kind}/` data sets have no random access"
    knobs = dataset.augmentation
    if knobs is None:
        return ""
    if knobs.aa:
        return "the `aa` policy works image by image"
    resized = padding_of(knobs, dataset.preprocessing) == 0
    if resized and knobs.train_interpolation not in FILTERS:
        return f"`train_interpolation` {knobs.train_interpolation} works image by image"
    return ""


def in_words(n_bytes: int) -> str:
    """Bytes with a unit."""
    return f"{n_bytes / 1e9:,.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:,.0f} MB"
