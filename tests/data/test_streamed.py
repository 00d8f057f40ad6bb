from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from irbin.data.batches import Images
from irbin.data.images import Augmentation, eval_transform, train_transform
from irbin.data.order import Feed
from irbin.data.streamed import StreamedLoader, common_size
from irbin.errors import DataError
from irbin.records.options import DataOptions, Preprocessing

GRAY = Preprocessing((1, 8, 8), (0.25,), (0.5,), "bilinear", 1.0)


class Pictures:
    """As a torchvision data set: (image, label), no reader; image i is filled with i."""

    def __init__(self, n_images: int, damaged: int | None = None, label: int | None = None) -> None:
        self.n_images, self.damaged, self.label = n_images, damaged, label
        self.classes = ("a", "b", "c")
        self.damaged_ones: Sequence[int] = ()

    def __len__(self) -> int:
        return self.n_images

    def __getitem__(self, index: int) -> tuple[Image.Image, int | None]:
        if index in self.damaged_ones:
            raise OSError("cannot identify")
        if index == self.damaged:
            raise OSError("image file is truncated\nsecond line")
        pixels = np.full((8, 8), index, dtype=np.uint8)
        return Image.fromarray(pixels), index % 3 if self.label is None else self.label


def images(
    n_images: int, damaged: int | None = None, label: int | None = None, augment: bool = False
) -> Images:
    if augment:
        transform = train_transform(GRAY, Augmentation(crop_padding=2))
    else:
        transform = eval_transform(GRAY)
    return Images(Pictures(n_images, damaged, label), transform, GRAY, 7, "pictures (train)")


def indices(loader: StreamedLoader) -> list[int]:
    """Which images a pass shows: GRAY maps pixel p to (p/255 − 0.25)/0.5."""
    return [round(float((x * 0.5 + 0.25) * 255)) for batch, _ in loader for x in batch[:, 0, 3, 3]]


@pytest.mark.parametrize(
    ("n_images", "workers"), [*((n, 0) for n in (1, 7, 8, 9, 31, 32, 33)), (9, 2), (33, 2)]
)
def test_evaluation_shows_every_image_once_in_order(n_images: int, workers: int) -> None:
    loader = StreamedLoader(images(n_images), DataOptions(batch_size=8, workers=workers))
    assert indices(loader) == list(range(n_images))
    assert len(loader) == -(-n_images // 8)
    assert loader.n_images == n_images


@pytest.mark.parametrize("n_images", [1, 7, 8, 9, 31, 32, 33])
def test_training_shows_whole_batches_without_repeating(n_images: int) -> None:
    loader = StreamedLoader(
        images(n_images), DataOptions(batch_size=8, workers=0), Feed(training=True)
    )
    loader.set_epoch(0)
    shown = indices(loader)
    expected = n_images if n_images < 8 else n_images // 8 * 8
    assert len(shown) == len(set(shown)) == expected
    assert len(loader) == max(n_images // 8, 1)


def test_order_depends_on_seed_and_epoch_alone() -> None:
    options = DataOptions(batch_size=4, workers=0)
    orders = {}
    for seed in (0, 1):
        loader = StreamedLoader(images(24), options, Feed(training=True, seed=seed))
        for epoch in (0, 1):
            torch.rand(3)
            loader.set_epoch(epoch)
            orders[seed, epoch] = indices(loader)
            loader.set_epoch(epoch)
            assert indices(loader) == orders[seed, epoch]
    assert len({tuple(order) for order in orders.values()}) == 4


@pytest.mark.slow
@given(st.integers(0, 6), st.integers(0, 5))
def test_a_pass_from_any_batch_is_the_rest_of_the_whole_pass(start: int, epoch: int) -> None:
    loader = StreamedLoader(images(25), DataOptions(batch_size=4, workers=0), Feed(training=True))
    loader.set_epoch(epoch)
    whole = indices(loader)
    loader.set_epoch(epoch, start=start)
    assert indices(loader) == whole[4 * start :]


def test_augmentation_does_not_depend_on_workers_or_on_what_came_before() -> None:
    passes = []
    for workers, start in ((0, 0), (2, 0), (0, 2)):
        loader = StreamedLoader(
            images(16, augment=True),
            DataOptions(batch_size=4, workers=workers),
            Feed(training=True),
        )
        loader.set_epoch(3, start=start)
        passes.append([batch for batch, _ in loader][-2:])
    for batches in passes[1:]:
        assert all(torch.equal(a, b) for a, b in zip(passes[0], batches, strict=True))
    loader.set_epoch(4)
    assert not torch.equal(next(iter(loader))[0], passes[0][0])


def test_images_are_normalized() -> None:
    loader = StreamedLoader(
        images(3), DataOptions(batch_size=3, workers=0), Feed(channels_last=True)
    )
    batch, labels = next(iter(loader))
    assert batch.dtype == torch.float32
    assert batch.shape == (3, 1, 8, 8)
    expected = (torch.tensor([0.0, 1.0, 2.0]) / 255 - 0.25) / 0.5
    assert torch.allclose(batch[:, 0, 0, 0], expected, atol=1e-6)
    assert labels.tolist() == [0, 1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_image_is_an_error_on_one_line(workers: int) -> None:
    loader = StreamedLoader(images(20, damaged=13), DataOptions(batch_size=4, workers=workers))
    with pytest.raises(DataError) as caught:
        list(loader)
    assert str(caught.value) == (
        "expected images that can be decoded, got number 13 of pictures (train): "
        "image file is truncated; repair or remove it"
    )


def test_labels_without_an_output_are_refused() -> None:
    options = DataOptions(batch_size=4, workers=0)
    assert len(list(StreamedLoader(images(6), options, Feed(n_classes=3)))) == 2
    with pytest.raises(DataError, match="expected labels below the network's 2 outputs, got 2"):
        list(StreamedLoader(images(6), options, Feed(n_classes=2)))
    unlabelled = images(6)
    unlabelled.base.label = -1
    with pytest.raises(DataError, match="expected a label for every image"):
        list(StreamedLoader(unlabelled, options))


def test_a_batch_size_beyond_the_data_set_is_the_data_set() -> None:
    loader = StreamedLoader(
        images(5), replace(DataOptions(workers=0), batch_size=128), Feed(training=True)
    )
    assert loader.batch_size == 5


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
@pytest.mark.parametrize("n_images", [1, 7, 8, 9, 33])
def test_ranks_evaluate_every_image_exactly_once(n_images: int, world_size: int) -> None:
    options = DataOptions(batch_size=4, workers=0)
    shown = []
    for rank in range(world_size):
        loader = StreamedLoader(images(n_images), options, Feed(rank=rank, world_size=world_size))
        mine = indices(loader)
        assert mine == list(range(rank, n_images, world_size))
        assert len(loader) == -(-len(mine) // loader.batch_size)
        shown += mine
    assert sorted(shown) == list(range(n_images))


@pytest.mark.parametrize(("world_size", "accumulation"), [(1, 2), (2, 1), (2, 2)])
def test_a_global_step_shows_what_one_large_batch_shows(world_size: int, accumulation: int) -> None:
    n_parts = world_size * accumulation
    one = StreamedLoader(
        images(50), DataOptions(batch_size=3 * n_parts, workers=0), Feed(training=True, seed=4)
    )
    one.set_epoch(2)
    whole = indices(one)
    parts = []
    for rank in range(world_size):
        loader = StreamedLoader(
            images(50),
            DataOptions(batch_size=3, workers=0),
            Feed(
                training=True, seed=4, rank=rank, world_size=world_size, accumulation=accumulation
            ),
        )
        loader.set_epoch(2)
        assert len(loader) == accumulation * len(one)
        parts.append(np.array(indices(loader)).reshape(len(one), accumulation, 3))
    steps = np.stack(parts, axis=2).reshape(-1)  # (step, micro-batch, rank, image)
    assert steps.tolist() == whole


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_all_damaged_images_are_told_at_once(workers: int) -> None:
    dataset = images(40)
    dataset.base.damaged_ones = range(3, 40, 3)  # as many as a message does not name
    loader = StreamedLoader(dataset, DataOptions(batch_size=4, workers=workers))
    with pytest.raises(DataError) as caught:
        list(loader)
    told = str(caught.value)
    assert told.startswith(
        "expected images that can be decoded, 13 of 40 in pictures (train) cannot: "
        "number 3 of pictures (train): cannot identify; number 6 of"
    )
    assert told.endswith(
        "number 24 of pictures (train): cannot identify; and 5 more; repair or remove them"
    )
    assert "\n" not in told


def test_of_a_large_data_set_the_first_images_are_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("irbin.data.streamed._MOST_LOOKED_AT", 10)
    dataset = images(40)
    dataset.base.damaged_ones = (2, 5, 17)
    loader = StreamedLoader(dataset, DataOptions(batch_size=40, workers=0))
    with pytest.raises(DataError, match=r"decoded, 2 of 10 in pictures .*number 2 .*number 5"):
        list(loader)


class Termed(Pictures):
    """Pictures whose workers get SIGTERM at every image, as all processes of a group may."""

    def __getitem__(self, index: int) -> tuple[Image.Image, int | None]:
        os.kill(os.getpid(), signal.SIGTERM)
        return super().__getitem__(index)


@pytest.mark.slow
def test_workers_go_on_after_signals_that_went_to_all_processes() -> None:
    pictures = Images(Termed(16), eval_transform(GRAY), GRAY, 7, "pictures (train)")
    loader = StreamedLoader(pictures, DataOptions(batch_size=4, workers=1))
    assert indices(loader) == list(range(16))
    assert common_size(pictures, pictures.transform, 1) == (1, 8, 8)
    pictures.base.damaged_ones = (3, 5)
    with pytest.raises(DataError, match="2 of 16"):
        indices(StreamedLoader(pictures, DataOptions(batch_size=4, workers=1)))
