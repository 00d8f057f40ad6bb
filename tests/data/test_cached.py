from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from irbin.data import Augmentation, open_dataset
from irbin.data.batches import Images, Loader
from irbin.data.cached import CachedLoader, decode
from irbin.data.images import eval_transform
from irbin.data.order import IN_ORDER, Feed
from irbin.data.streamed import StreamedLoader
from irbin.errors import DataError
from irbin.records.options import DataOptions

from .conftest import TINY, MakeFolder

TRAINED = Feed(training=True, seed=6)
KNOBS = Augmentation(crop_padding=2, vflip=0.5, color_jitter=0.4)


def open_training(options: DataOptions, knobs: Augmentation = KNOBS) -> Images:
    dataset = open_dataset(options, "train", TINY, training=True, augmentation=knobs, seed=6)
    assert isinstance(dataset, Images)
    return dataset


def cached(dataset: Images, options: DataOptions, feed: Feed = IN_ORDER) -> CachedLoader:
    return CachedLoader(dataset, decode(dataset, eval_transform(TINY), options), options, feed)


def whole_pass(loader: Loader, epoch: int, start: int = 0) -> list[tuple[Tensor, Tensor]]:
    loader.set_epoch(epoch, start)
    batches = list(loader)
    loader.close()
    return batches


def same(left: list[tuple[Tensor, Tensor]], right: list[tuple[Tensor, Tensor]]) -> bool:
    return len(left) == len(right) and all(
        torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(left, right, strict=True)
    )


def test_images_that_are_not_normalized_are_bytes_with_channels_innermost(
    make_folder: MakeFolder,
) -> None:
    options = replace(make_folder(), workers=0)
    dataset = open_training(options, KNOBS)
    bytes_alone = Feed(training=True, seed=6, normalized=False)
    for make in (cached, StreamedLoader):
        loader, plain = make(dataset, options, bytes_alone), make(dataset, options, TRAINED)
        for (pixels, labels), (images, same_labels) in zip(
            whole_pass(loader, 2), whole_pass(plain, 2), strict=True
        ):
            assert pixels.dtype == torch.uint8
            assert pixels.is_contiguous(memory_format=torch.channels_last)
            assert torch.equal(plain.normalize(pixels), images)
            assert torch.equal(labels, same_labels)


@pytest.mark.slow
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    ("workers", "knobs"), [(0, KNOBS), (2, KNOBS), (0, replace(KNOBS, flip="alternating"))]
)
def test_cached_batches_are_the_streamed_ones(
    workers: int, knobs: Augmentation, channels_last: bool, make_folder: MakeFolder
) -> None:
    options = replace(make_folder(), workers=workers)
    dataset = open_training(options, knobs)
    feed = Feed(training=True, seed=6, channels_last=channels_last)
    in_memory, streamed = (
        cached(dataset, options, feed),
        StreamedLoader(dataset, options, feed),
    )
    assert len(in_memory) == len(streamed) == 3
    assert in_memory.n_images == 13
    given = whole_pass(in_memory, 2)
    assert same(given, whole_pass(streamed, 2))
    assert not same(given, whole_pass(in_memory, 3))
    images, labels = given[0]
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64
    expected = torch.channels_last if channels_last else torch.contiguous_format
    assert images.is_contiguous(memory_format=expected)


def by_index(loader: Loader, epoch: int) -> Tensor:
    """What an epoch shows of every image: (images, channels, height, width)."""
    (indices,) = loader.order(epoch)
    ((images, _),) = whole_pass(loader, epoch)
    return images[torch.from_numpy(indices).argsort()]


@pytest.mark.slow
@pytest.mark.parametrize("crops", [{"crop_padding": 2}, {"scale": (1, 1), "ratio": (1, 1)}])
def test_alternating_flips_show_every_image_both_ways(
    crops: dict[str, object], make_folder: MakeFolder
) -> None:
    """Cached and streamed, where timm's transform moves pixels and where ours does."""
    options = replace(make_folder(n_train=64), batch_size=64)
    plain = {"crop_padding": 0, "train_interpolation": "bilinear", **crops}
    dataset = open_training(options, Augmentation(**plain, flip="alternating"))
    still = open_training(options, Augmentation(**plain, hflip=0.0))
    is_padded = plain["crop_padding"] > 0
    for loaders in (cached, StreamedLoader):
        loader, unflipped = (loaders(d, options, TRAINED) for d in (dataset, still))
        flipped = []
        for epoch in range(3):
            given, upright = (by_index(each, epoch) for each in (loader, unflipped))
            is_upright = (given == upright).flatten(1).all(1)
            mirrored = (given == upright.flip(-1)).flatten(1).all(1)
            if not is_padded:
                assert torch.equal(is_upright, ~mirrored)
            flipped.append(~is_upright)
        assert torch.equal(flipped[0], ~flipped[1])
        assert torch.equal(flipped[0], flipped[2])
        assert 16 < int(flipped[0].sum()) < 48


@pytest.mark.slow
@pytest.mark.parametrize(
    "knobs",
    [
        replace(KNOBS, repeat_views=2),
        replace(KNOBS, repeat_views=2, flip="alternating"),
        Augmentation(crop_padding=0, repeat_views=2, flip="alternating"),
    ],
    ids=["padded", "alternating", "resized"],
)
def test_views_repeat_in_another_order(knobs: Augmentation, make_folder: MakeFolder) -> None:
    options = replace(make_folder(n_train=32), batch_size=32)
    dataset = open_training(options, knobs)
    for loaders in (cached, StreamedLoader):
        loader = loaders(dataset, options, TRAINED)
        shown = [by_index(loader, epoch) for epoch in range(5)]
        assert torch.equal(shown[0], shown[2])
        assert torch.equal(shown[1], shown[3])
        assert torch.equal(shown[0], shown[4])
        assert not torch.equal(shown[0], shown[1])
        orders = [next(loader.order(epoch)).tolist() for epoch in (0, 2)]
        assert orders[0] != orders[1]


def test_a_pass_from_any_batch_is_the_rest(make_folder: MakeFolder) -> None:
    options = make_folder()
    loader = cached(open_training(options), options, TRAINED)
    whole = whole_pass(loader, 4)
    for start in range(5):
        assert same(whole_pass(loader, 4, start), whole[start:])


@pytest.mark.parametrize(("world_size", "accumulation"), [(2, 1), (1, 2), (3, 1)])
def test_processes_and_accumulation_show_the_images_of_one(
    world_size: int, accumulation: int, make_folder: MakeFolder
) -> None:
    options = replace(make_folder(), batch_size=2)
    dataset = open_training(options)
    large = replace(options, batch_size=2 * world_size * accumulation)
    one = whole_pass(cached(dataset, large, TRAINED), 1)
    parts = [
        whole_pass(
            cached(
                dataset,
                options,
                replace(TRAINED, rank=rank, world_size=world_size, accumulation=accumulation),
            ),
            1,
        )
        for rank in range(world_size)
    ]
    for step, (images, labels) in enumerate(one):
        micro = range(step * accumulation, (step + 1) * accumulation)
        shown = [part[m] for m in micro for part in parts]
        assert torch.equal(torch.cat([x for x, _ in shown]), images)
        assert torch.equal(torch.cat([y for _, y in shown]), labels)


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_evaluation_shows_every_image_once(world_size: int, make_folder: MakeFolder) -> None:
    options = make_folder()
    dataset = open_dataset(options, "validation", TINY)
    assert isinstance(dataset, Images)
    expected = torch.cat([x for x, _ in StreamedLoader(dataset, options)])
    for rank in range(world_size):
        loader = cached(dataset, options, Feed(rank=rank, world_size=world_size))
        shown = [x for x, _ in loader]
        assert len(shown) == len(loader)
        mine = expected[rank::world_size]
        assert torch.equal(torch.cat([*shown, expected[:0]]), mine)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_decoding_tells_how_far_it_is(workers: int, make_folder: MakeFolder) -> None:
    options = replace(make_folder(n_train=70), workers=workers)
    told: list[int] = []
    pixels = decode(open_training(options), eval_transform(TINY), options, told.append)
    assert told == [64, 70]
    assert pixels.images.shape == (70, 3, 8, 8)
    assert pixels.images.dtype == torch.uint8
    dataset = open_dataset(options, "train", TINY)
    assert all(
        torch.equal(image, dataset[i][0]) and int(label) == dataset[i][1]
        for i, (image, label) in enumerate(zip(pixels.images, pixels.labels, strict=True))
    )


def test_damaged_images_and_labels_without_an_output(
    make_folder: MakeFolder, tmp_path: Path
) -> None:
    options = make_folder()
    with pytest.raises(DataError, match="expected labels below the network's 2 outputs, got 2"):
        cached(open_training(options), options, Feed(n_classes=2))
    (tmp_path / "train" / "b" / "001.png").write_bytes(b"")
    message = (
        r"^expected images that can be decoded, got .*train/b/001\.png: .*; repair or remove it$"
    )
    with pytest.raises(DataError, match=message):
        cached(open_training(options), options)
