"""Streams from local shards; webdataset leaves its files to the garbage collector."""

from __future__ import annotations

import gc
import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from irbin.data import Augmentation, Loader, Stream, eval_loader, open_dataset, train_loader
from irbin.data.order import Feed
from irbin.data.streamed import StreamedLoader
from irbin.errors import DataError, UsageError
from irbin.records.options import DataOptions

from .conftest import TINY, png

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]


@pytest.fixture(autouse=True, scope="module")
def _only_new_objects() -> None:
    """Are looked at below: a look at all that torch and other tests made takes half a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _files_closed() -> Iterator[None]:
    """Here, where they may be open; the collector would come in another file's test."""
    yield
    gc.collect()


N_TRAIN, N_VAL = 40, 23


def picture(level: int) -> bytes:
    return png(np.full((8, 8, 3), level, np.uint8))


def write_shards(root: Path, name: str, n_shards: int, levels: range) -> dict[str, Any]:
    """Tar files of images filled with their level; what `_info.json` says of the split."""
    lengths = []
    files = [f"{name}-{shard:04d}.tar" for shard in range(n_shards)]
    for shard, file in enumerate(files):
        mine = levels[shard::n_shards]
        lengths.append(len(mine))
        with tarfile.open(root / file, "w") as archive:
            for level in mine:
                for suffix, content in (("png", picture(level)), ("cls", b"%d" % (level % 3))):
                    info = tarfile.TarInfo(f"{level:05d}.{suffix}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
    return {
        "name": name,
        "num_samples": len(levels),
        "filenames": files,
        "shard_lengths": lengths,
    }


@pytest.fixture(scope="module")
def wds_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("webdataset")
    root = tmp_path_factory.mktemp("wds")
    splits = {
        "train": write_shards(root, "train", 4, range(N_TRAIN)),
        "validation": write_shards(root, "validation", 3, range(100, 100 + N_VAL)),
    }
    (root / "_info.json").write_text(json.dumps({"splits": splits}))
    return root


@pytest.fixture(scope="module")
def hf_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    # datasets waits 5 seconds after a pass over several shards, against a crash of arrow's threads
    pause, datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = (
        datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN,
        0.1,
    )
    root = tmp_path_factory.mktemp("hf")
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b", "c"])}
    )
    for split, n_shards, levels in (
        ("train", 4, range(N_TRAIN)),
        ("validation", 3, range(100, 100 + N_VAL)),
    ):
        for shard in range(n_shards):
            mine = levels[shard::n_shards]
            images = [{"bytes": picture(level), "path": None} for level in mine]
            labels = [level % 3 for level in mine]
            table = datasets.Dataset.from_dict({"image": images, "label": labels}, features)
            table.to_parquet(root / "data" / f"{split}-{shard:05d}-of-{n_shards:05d}.parquet")
    yield root
    datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = pause


@pytest.fixture(params=["wds", "hfids"])
def stream_options(request: pytest.FixtureRequest) -> DataOptions:
    if request.param == "wds":
        root = request.getfixturevalue("wds_root")
        return DataOptions(data_dir=str(root), dataset="wds/x", batch_size=4, workers=0)
    root = request.getfixturevalue("hf_root")
    return DataOptions(
        data_dir=str(root / "cache"),
        dataset=f"hfids/{root}",
        batch_size=4,
        workers=0,
        train_num_samples=N_TRAIN,
        val_num_samples=N_VAL,
    )


def levels_of(images: torch.Tensor) -> list[int]:
    return [round(float((x * 0.25 + 0.5) * 255)) for x in images[:, 0, 3, 3]]


def shown_by(loader: Loader) -> list[int]:
    return [level for images, _ in loader for level in levels_of(images)]


def open_stream(options: DataOptions, split: str, **settings: Any) -> Stream:
    dataset = open_dataset(options, split, TINY, **settings)
    assert isinstance(dataset, Stream)
    return dataset


def open_training(options: DataOptions) -> Stream:
    knobs = Augmentation(crop_padding=1)
    return open_stream(options, "train", training=True, augmentation=knobs, seed=3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("knob", "off", "on"), [("flip", "random", "alternating"), ("repeat_views", 0, 4)]
)
def test_what_needs_images_with_a_number_is_refused(
    knob: str, off: object, on: object, stream_options: DataOptions
) -> None:
    knobs = Augmentation(**{knob: on})
    expected = (
        rf"^`{knob}`: expected `{off}` for (wds|hfids)/.* \(train\), whose images have no number, "
        rf"got `{on}`$"
    )
    with pytest.raises(UsageError, match=expected):
        open_stream(stream_options, "train", training=True, augmentation=knobs)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workers", "world_size"), [(0, 1), (2, 1), (5, 1), (0, 2), (2, 2), (0, 3)]
)
def test_no_validation_image_is_lost_or_repeated(
    workers: int, world_size: int, stream_options: DataOptions
) -> None:
    options = replace(stream_options, workers=workers)
    dataset = open_stream(options, "validation")
    assert dataset.n_images == N_VAL
    shown = []
    for rank in range(world_size):
        loader = eval_loader(dataset, options, Feed(rank=rank, world_size=world_size))
        assert loader.n_images == N_VAL
        mine = [
            (level, label)
            for images, labels in loader
            for level, label in zip(levels_of(images), labels.tolist(), strict=True)
        ]
        assert mine
        shown += mine
        loader.close()
    assert sorted(shown) == [(level, level % 3) for level in range(100, 100 + N_VAL)]


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "world_size"), [(0, 1), (2, 1), (0, 2)])
def test_an_epoch_can_be_met_again_from_any_batch(
    workers: int, world_size: int, stream_options: DataOptions
) -> None:
    options = replace(stream_options, workers=workers)
    orders = []
    for rank in range(world_size):
        loader = train_loader(
            open_training(options),
            options,
            Feed(seed=3, rank=rank, world_size=world_size, accumulation=2),
        )
        loader.set_epoch(1)
        whole = [images for images, _ in loader]
        assert len(whole) == len(loader) > 2
        loader.set_epoch(2)
        other = [images for images, _ in loader]
        assert not torch.equal(other[0], whole[0])
        loader.set_epoch(1, start=2)
        rest = [images for images, _ in loader]
        assert len(rest) == len(whole) - 2
        assert all(torch.equal(a, b) for a, b in zip(rest, whole[2:], strict=True))
        orders.append(len(whole))
    assert len(set(orders)) == 1


@pytest.mark.slow
def test_one_process_sees_every_training_image_once(stream_options: DataOptions) -> None:
    plain = open_stream(stream_options, "train", training=True, seed=3)
    loader = train_loader(plain, stream_options, Feed(seed=3))
    loader.set_epoch(0)
    assert sorted(shown_by(loader)) == list(range(N_TRAIN))
    assert len(loader) == N_TRAIN // 4


def test_shards_that_do_not_suffice(wds_root: Path) -> None:
    options = DataOptions(data_dir=str(wds_root), dataset="wds/x", batch_size=4, workers=0)
    dataset = open_stream(options, "validation")
    message = r"^expected at least one shard for each of 4 processes, got 3 in wds/x .*: fewer"
    with pytest.raises(UsageError, match=message):
        eval_loader(dataset, options, Feed(world_size=4))
    loader = StreamedLoader(dataset, replace(options, workers=9))
    assert loader.why == "images: streamed by 3 workers"
    with pytest.raises(UsageError, match=r"expected at most 12 images in a step, got 16: 4 a"):
        train_loader(open_training(options), options, Feed(seed=0, world_size=4, accumulation=4))


def test_splits_without_an_info_file(wds_root: Path, tmp_path: Path) -> None:
    shards = {file.name for file in wds_root.glob("*.tar")}
    for name in shards:
        (tmp_path / name).symlink_to(wds_root / name)
    options = DataOptions(data_dir=str(tmp_path), dataset="wds/x", batch_size=4, workers=0)
    message = (
        r"^expected a data set at wds/x .* \(train\), got: no `_info.json` with the split "
        r"`train`; without one, name the shards: `train_split='NAME-\{0000\.\.0012\}\.tar\|"
        r"N_IMAGES'`$"
    )
    with pytest.raises(DataError, match=message):
        open_training(options)
    named = replace(options, val_split="validation-{0000..0002}.tar")
    dataset = open_stream(named, named.val_split)
    assert dataset.n_images == 0
    assert len(shown_by(eval_loader(dataset, named))) == N_VAL
    train = replace(options, train_split="train-{0000..0003}.tar")
    with pytest.raises(DataError, match=r"got: no number of images; `train_num_samples=` or `\|N"):
        open_stream(train, train.train_split, training=True)
    counted = replace(train, train_num_samples=N_TRAIN)
    assert open_stream(counted, train.train_split, training=True).n_images == N_TRAIN
    missing = "train-{0003..0004}.tar|20"
    with pytest.raises(DataError, match=r"^expected the shard .*train-0004\.tar of .* not exist$"):
        open_stream(options, missing, training=True)
    with pytest.raises(UsageError, match="`data_dir=`: expected the folder"):
        open_stream(replace(options, data_dir=None), "train")


def test_images_that_the_reader_leaves_out_are_missed(wds_root: Path, tmp_path: Path) -> None:
    info = json.loads((wds_root / "_info.json").read_text())
    info["splits"]["validation"]["shard_lengths"][1] += 1  # as if one had not been decoded
    for file in wds_root.glob("*.tar"):
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "_info.json").write_text(json.dumps(info))
    options = DataOptions(data_dir=str(tmp_path), dataset="wds/x", batch_size=4, workers=0)
    dataset = open_stream(options, "validation")
    assert len(list(eval_loader(dataset, options, Feed(rank=0, world_size=2)))) > 0
    for rank, world_size, expected, got in ((0, 1, 24, 23), (1, 2, 9, 8)):
        message = rf"^expected {expected} images in wds/x .*, got {got}: some cannot be decoded"
        with pytest.raises(DataError, match=message):
            list(eval_loader(dataset, options, Feed(rank=rank, world_size=world_size)))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_reader_that_fails_says_it_in_one_line(workers: int, wds_root: Path) -> None:
    options = DataOptions(data_dir=str(wds_root), dataset="wds/x", batch_size=4, workers=workers)
    dataset = open_stream(options, "validation")
    dataset.base.reader.target_key = "class"
    with pytest.raises(DataError) as caught:
        list(eval_loader(dataset, options))
    assert str(caught.value).startswith(
        f"expected a stream that can be read, got wds/x {wds_root} (validation): Target key(s)"
    )
    assert "\n" not in str(caught.value)


def test_hugging_face_tables_have_random_access(hf_root: Path) -> None:
    options = DataOptions(
        data_dir=str(hf_root / "tables"), dataset=f"hfds/{hf_root}", batch_size=4, workers=0
    )
    dataset = open_dataset(options, "validation", TINY)
    assert len(dataset) == N_VAL
    shown = []
    for rank in range(2):
        for images, _ in eval_loader(dataset, options, Feed(rank=rank, world_size=2)):
            shown += levels_of(images)
    assert sorted(shown) == list(range(100, 100 + N_VAL))
    with pytest.raises(DataError, match=r"^expected a data set at hfds/.*\(nowhere\), got: "):
        open_dataset(options, "nowhere", TINY)


def test_a_hugging_face_stream_must_be_counted(hf_root: Path) -> None:
    options = DataOptions(data_dir=str(hf_root / "c"), dataset=f"hfids/{hf_root}", workers=0)
    message = r"got: no number of images; `val_num_samples=` says it$"
    with pytest.raises(DataError, match=message):
        open_dataset(options, "validation", TINY)
