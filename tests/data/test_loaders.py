from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from irbin.data import Augmentation, Loader, make_loaders, open_dataset
from irbin.data.cached import CachedLoader
from irbin.data.order import Feed
from irbin.data.streamed import StreamedLoader
from irbin.errors import UsageError
from irbin.records.options import DataOptions
from irbin.records.progress import OnProgress

from .conftest import TINY, MakeFolder, png


def loaders(
    options: DataOptions,
    knobs: Augmentation | None = None,
    report: OnProgress | None = None,
    **settings: object,
) -> tuple[Loader, Loader]:
    training = open_dataset(
        options, "train", TINY, training=True, augmentation=knobs or Augmentation(), seed=1
    )
    return make_loaders(
        training,
        open_dataset(options, "validation", TINY),
        options,
        Feed(seed=1, **settings),
        report,
    )


@pytest.mark.parametrize("cache", ["auto", "ram", "device"])
def test_small_data_sets_are_decoded_once(cache: str, make_folder: MakeFolder) -> None:
    told: list[tuple[int, int]] = []
    train, val = loaders(
        replace(make_folder(), cache=cache), report=lambda *counts: told.append(counts)
    )
    assert told == [(13, 20), (20, 20)]
    assert isinstance(train, CachedLoader)
    assert isinstance(val, CachedLoader)
    expected = "images: 13 + 7 decoded once, 0 MB in RAM, augmented in batches"
    assert train.why == val.why == expected


def test_cache_off_streams_the_same_batches(make_folder: MakeFolder) -> None:
    options = make_folder()
    cached, _ = loaders(options)
    streamed, val = loaders(replace(options, cache="off"))
    assert isinstance(streamed, StreamedLoader)
    assert streamed.why == val.why == "images: streamed by this process (`cache='off'`)"
    for loader in (cached, streamed):
        loader.set_epoch(3)
    for (left, _), (right, _) in zip(cached, streamed, strict=True):
        assert torch.equal(left, right)


REFUSED = {
    "policy": (Augmentation(aa="rand-m9"), "the `aa` policy works image by image"),
    "filter": (
        Augmentation(crop_padding=0, train_interpolation="lanczos"),
        "`train_interpolation` lanczos works image by image",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_works_image_by_image_is_streamed(case: str, make_folder: MakeFolder) -> None:
    knobs, reason = REFUSED[case]
    options = make_folder()
    train, val = loaders(options, knobs)
    assert train.why == val.why == f"images: streamed by this process: {reason}"
    with pytest.raises(UsageError) as caught:
        loaders(replace(options, cache="ram"), knobs)
    assert str(caught.value) == (
        f"`cache='ram'`: the images cannot be kept decoded: {reason}; `cache='auto'` streams them"
    )


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("odd", [0, 37], ids=["seen_at_once", "seen_late"])
def test_random_resized_crops_of_uneven_images_are_streamed(
    odd: int, workers: int, make_folder: MakeFolder, tmp_path: Path
) -> None:
    options = replace(make_folder(n_train=100, size=(10, 12)), workers=workers)
    knobs = Augmentation(crop_padding=0)
    train, _ = loaders(options, knobs)
    assert isinstance(train, CachedLoader)
    assert next(iter(train))[0].shape == (4, 3, 8, 8)
    name = tmp_path / "train" / "abc"[odd % 3] / f"{odd:03d}.png"
    name.write_bytes(png(np.zeros((11, 12, 3), np.uint8)))
    train, _ = loaders(options, knobs)
    assert train.why.endswith(
        ": they differ in size and are cropped at random before they are resized"
    )
    with pytest.raises(UsageError, match=r"^`cache='device'`: the images cannot be kept decoded"):
        loaders(replace(options, cache="device"), knobs)


def test_auto_takes_at_most_a_quarter_of_the_free_memory(
    make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, n_bytes = make_folder(), 20 * 3 * 8 * 8
    for free, kept in ((4 * n_bytes, True), (4 * n_bytes - 1, False)):
        monkeypatch.setattr("irbin.data.choice.free_bytes", lambda *_, free=free: free)
        train, _ = loaders(options)
        assert isinstance(train, CachedLoader) == kept
    assert train.why == (
        "images: streamed by this process: decoded, they are 0 MB, over a quarter of the free "
        "memory"
    )
    # each process of a machine holds a copy
    monkeypatch.setattr("irbin.data.choice.free_bytes", lambda *_: 4 * n_bytes)
    assert isinstance(loaders(options, world_size=2)[0], StreamedLoader)
    for name, value in {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1"}.items():  # on two machines
        monkeypatch.setenv(name, value)
    assert isinstance(loaders(options, world_size=2)[0], CachedLoader)
    monkeypatch.setattr("irbin.data.choice.free_bytes", lambda *_: n_bytes - 1)
    with pytest.raises(UsageError) as caught:
        loaders(replace(options, cache="ram"))
    assert str(caught.value) == (
        "`cache='ram'`: expected room for 0 MB of decoded images, got 0 MB; `cache='off'` streams "
        "them"
    )
