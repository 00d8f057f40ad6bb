"""Streams over several processes and workers: who reads which shard.

timm's readers ask torch.distributed and pad every reader to the same number of images, which is
right for training and wrong for evaluation: a reader with a longer share loses images, one with a
shorter share repeats some.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from irbin.data.batches import Stream
from irbin.errors import DataError, UsageError
from irbin.records.options import DataOptions


def share_stream(
    stream: Stream, options: DataOptions, training: bool, rank: int, world_size: int
) -> tuple[int, int]:
    """Gives this process its shards, in place.

    Args:
        stream: to be read by this process.
        options: workers.
        training: every process gets equally many images; else every image goes to one process.
        rank: number of this process.
        world_size: processes that share the images.

    Returns:
        Workers that have something to read, and the images they give in a pass of evaluation
        (0 where that is unknown).

    Raises:
        UsageError: fewer shards than processes.
    """
    reader = stream.base.reader
    workers = _n_readers(stream, options.workers, world_size)
    stream.rank, stream.training = rank, training
    reader.ds, reader.num_samples = None, stream.n_images
    reader.dist_rank, reader.dist_num_replicas = rank, world_size
    expected = 0 if training or world_size > 1 else stream.n_images
    if stream.split is not None:
        files, lengths = stream.split.filenames, stream.split.shard_lengths
        if not training:
            files, lengths = files[rank::world_size], lengths[rank::world_size]
            reader.dist_rank, reader.dist_num_replicas = 0, 1
            expected = sum(lengths) or expected
            reader.num_samples = expected or stream.n_images // world_size
        reader.split_info = replace(stream.split, filenames=files)
    reader.set_loader_cfg(num_workers=workers)
    return workers, expected


def _n_readers(stream: Stream, wanted: int, world_size: int) -> int:
    """At most `wanted` workers: one without a shard gives nothing, or waits for ever."""
    n_shards = _count_shards(stream)
    if n_shards is None:
        return wanted
    if stream.split is not None and n_shards < world_size:
        raise UsageError(
            f"expected at least one shard for each of {world_size} processes, got {n_shards} in "
            f"{stream.place}: fewer processes, or more shards"
        )
    # Hugging Face's readers take every `world_size`-th image of all shards where those do not
    # divide evenly
    even = stream.split is not None or n_shards % world_size == 0
    return min(wanted, n_shards // world_size if even else n_shards)


def _count_shards(stream: Stream) -> int | None:
    reader = stream.base.reader
    if stream.split is not None:
        return len(stream.split.filenames)
    if stream.kind == "hfids" and not reader.download:
        shards: int = reader.builder.as_streaming_dataset(split=reader.split).num_shards
        return shards
    return None  # as many as there are workers


def check_files(root: str, info: Any, place: str) -> None:
    """Whether the shards that a split names are there, as far as they are files.

    Raises:
        DataError: one is missing; timm's reader would go on with the next.
    """
    for name in info.filenames:
        path = os.path.join(root, name)
        if "://" not in path and not path.startswith("pipe:") and not os.path.exists(path):
            raise DataError(f"expected the shard {path} of {place}, which does not exist")
