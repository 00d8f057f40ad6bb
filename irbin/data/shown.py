"""Single images of a data set as a network sees them, to be shown to people."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from irbin.data.batches import Damaged, Stream
from irbin.data.datasets import open_dataset
from irbin.records.options import DataOptions, Preprocessing


def pixels_at(
    options: DataOptions, preprocessing: Preprocessing, places: Iterable[int]
) -> dict[int, NDArray[np.uint8]]:
    """Validation images by their place in the data set: uint8 (height, width, channels).

    Args:
        options: which images.
        preprocessing: how they are cut.
        places: from 0; streams, which are read from their beginning alone, give none of them.

    Raises:
        DataError: see `open_dataset`.
    """
    dataset = open_dataset(options, options.val_split, preprocessing, training=False)
    if isinstance(dataset, Stream):
        return {}
    pixels = {}
    for place in places:
        sample = dataset[place]
        if not isinstance(sample, Damaged):
            pixels[place] = np.ascontiguousarray(sample[0].permute(1, 2, 0).numpy())
    return pixels
