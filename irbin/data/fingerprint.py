"""A short name for the data of a run: equal data, equal name; nothing is decoded."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from irbin.data.batches import Images, Stream
from irbin.data.classes import class_names

_N_SIZES = 200_000
"""Files whose sizes are asked for; of larger data sets names and labels must do."""


def fingerprint(dataset: Images | Stream) -> str:
    """16 hexadecimal digits of what identifies a data set.

    That is: how many images, class names, labels, and for files their names inside the data set and
    their sizes (above 200,000 files names alone), for torchvision's arrays the pixels, for shards
    their names and lengths. The folder's own place does not count.
    """
    digest = hashlib.sha256()
    for part in _parts(dataset):
        digest.update(part)
    return digest.hexdigest()[:16]


def _parts(dataset: Images | Stream) -> Iterator[bytes | memoryview]:
    yield _json([len(dataset) if isinstance(dataset, Images) else dataset.n_images])
    yield _json(class_names(dataset))
    if isinstance(dataset, Stream):
        if dataset.split is not None:
            yield _json([dataset.split.filenames, dataset.split.shard_lengths])
        return
    reader = getattr(dataset.base, "reader", None)
    if reader is None:
        yield from _of_torchvision(dataset.base)
    elif hasattr(reader, "dataset"):  # Hugging Face's table
        yield _json(reader.dataset[reader.label_key][:])
    else:
        yield from _of_files(reader)


def _of_files(reader: Any) -> Iterator[bytes]:
    """timm's folder (path, label) and tar (members, labels) readers."""
    n = len(reader)
    for index, sample in enumerate(reader.samples):
        if isinstance(sample[0], str):
            name, label = reader.filename(index), sample[1]
            size = os.path.getsize(sample[0]) if n <= _N_SIZES else 0
        else:
            name, label, size = sample[0].name, reader.targets[index], sample[0].size
        yield f"{name}\0{label}\0{size}\n".encode(errors="surrogatepass")


def _of_torchvision(base: Any) -> Iterator[bytes | memoryview]:
    """Arrays where the data set holds them, else (path, label) pairs."""
    labels = getattr(base, "targets", None)
    if labels is not None:
        yield np.asarray(labels, np.int64).tobytes()
    pixels = getattr(base, "data", None)
    if pixels is not None:
        yield np.ascontiguousarray(pixels).data.cast("B")
    for path, _ in getattr(base, "samples", ()):
        yield f"{os.path.basename(path)}\n".encode(errors="surrogatepass")


def _json(value: Any) -> bytes:
    return json.dumps(value, default=list).encode() + b"\n"
