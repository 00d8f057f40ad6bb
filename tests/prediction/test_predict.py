from __future__ import annotations

import io
import itertools
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import irbin
from irbin.errors import UsageError
from irbin.records.options import DataOptions, SourceOptions

PACKED = "zoo:resnet20-cifar10-1w1a"
SIZE = SourceOptions(input_size=(3, 28, 28))


@pytest.fixture
def three() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 28 * 28, 3))


@pytest.fixture(scope="module")
def photos(pictures28: Path) -> Path:
    return pictures28 / "val"


def test_predictions_are_what_evaluate_counts(three: nn.Module, pictures28: Path) -> None:
    data = DataOptions(data_dir=str(pictures28), workers=0)
    evaluated = irbin.evaluate(three, data=data, source_options=SIZE)
    told = list(irbin.predict(three, pictures28 / "val", source_options=SIZE, topk=1))
    classes = ["bars", "dots", "plain"]
    right = [classes[one.best[0].index] == Path(one.image).parent.name for one in told]
    assert len(told) == evaluated.n_images == 18
    assert 100 * sum(right) / len(right) == pytest.approx(evaluated.top1)


@pytest.mark.parametrize("input_type", [None, "float32", "bytes"])
def test_a_packed_network_answers_as_itself(photos: Path, input_type: str | None) -> None:
    model = irbin.load(PACKED)
    told = list(irbin.predict(model, photos, batch_size=7, input_type=input_type))  # type: ignore[arg-type]
    for file in told:
        assert [file] == list(irbin.predict(model, file.image, input_type=input_type))  # type: ignore[arg-type]
    if input_type != "float32":  # bytes and floats may disagree on an image
        assert told == [one for file in told for one in model.predict(file.image)]


@pytest.mark.parametrize("batch_size", [1, 5, 18, 19, 64])
def test_order_is_kept_whatever_the_batch(photos: Path, batch_size: int) -> None:
    told = list(irbin.predict(PACKED, photos, batch_size=batch_size))
    assert told == list(irbin.predict(PACKED, photos))
    assert [Path(one.image).name for one in told[:3]] == ["0.png", "1.png", "2.png"]


def test_a_damaged_picture_keeps_its_place(photos: Path, tmp_path: Path) -> None:
    good = sorted(str(file) for file in photos.rglob("*.png"))[:4]
    bad = tmp_path / "bad.png"
    bad.write_bytes(Path(good[0]).read_bytes()[:60])
    empty = tmp_path / "empty.png"
    empty.write_bytes(b"")
    named = [good[0], str(bad), good[1], str(empty), good[2]]
    told = list(irbin.predict(PACKED, named, batch_size=2))
    assert [one.image for one in told] == named
    assert [bool(one.error) for one in told] == [False, True, False, True, False]
    assert told[1].best == ()


def test_a_folder_of_damaged_pictures_computes_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no")
    (told,) = irbin.predict(PACKED, tmp_path)
    assert told.error
    assert "\n" not in told.error


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_files_images_and_arrays_are_one(tmp_path: Path, mode: str) -> None:
    shape = (40, 50) if mode == "L" else (40, 50, len(mode))
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    image = Image.fromarray(pixels)
    image.save(tmp_path / "one.png")
    told = list(irbin.predict(PACKED, [tmp_path / "one.png", image, pixels]))
    assert told[0].best == told[1].best == told[2].best
    assert [one.image for one in told] == [str(tmp_path / "one.png"), "1", "2"]
    (single,) = irbin.predict(PACKED, pixels)
    assert single.best == told[0].best


def test_standard_input_is_a_picture(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = next(photos.rglob("*.png"))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(file.read_bytes())))
    (told,) = irbin.predict(PACKED, "-")
    assert told.best == next(irbin.predict(PACKED, file)).best
    (told,) = irbin.predict(PACKED, "-")
    assert told.error == "nothing came on standard input"


def test_an_endless_stream_is_answered_as_it_comes() -> None:
    frames = (np.full((32, 32, 3), n % 256, np.uint8) for n in itertools.count())
    told = irbin.predict(PACKED, frames, batch_size=2)
    assert [one.image for one in itertools.islice(told, 5)] == ["0", "1", "2", "3", "4"]
    told.close()  # type: ignore[attr-defined]  # a generator


def test_photographs_are_turned_where_that_is_asked_for(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    stored, upright = (next(irbin.predict(PACKED, tmp_path, upright=up)) for up in (False, True))
    assert stored.best == next(irbin.predict(PACKED, pixels)).best
    turned = np.ascontiguousarray(np.rot90(pixels, -1))
    assert upright.best == next(irbin.predict(PACKED, turned)).best


def test_images_are_fed_as_asked(photos: Path) -> None:
    fed = SourceOptions(mean=(0.0,), std=(1.0,))
    told, other = (list(irbin.predict(PACKED, photos, source_options=o)) for o in (None, fed))
    assert told != other


def test_a_backbone_is_refused(photos: Path) -> None:
    options = SourceOptions(pretrained=False, num_classes=0, img_size=32)
    with pytest.raises(UsageError, match="has no classifier"):
        irbin.predict("resnet10t", photos, source_options=options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"topk": 0}, "`topk`"),
        ({"batch_size": 0}, "`batch_size`"),
        ({"input_type": "int8"}, "`input_type`"),
        ({"source_options": {}}, "`source_options`"),
    ],
)
def test_odd_options_are_refused_at_once(photos: Path, options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        irbin.predict(PACKED, photos, **options)


def test_an_input_that_there_is_not_is_refused_of_every_network(
    three: nn.Module, photos: Path
) -> None:
    with pytest.raises(UsageError, match="`input_type`: expected one of"):
        irbin.predict(three, photos, source_options=SIZE, input_type="int8")  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [3, [3], [None], np.zeros((2, 2)), [np.zeros((1, 2, 2, 3))]])
def test_what_is_no_picture_is_refused(given: object) -> None:
    with pytest.raises(UsageError, match="expected a"):
        list(irbin.predict(PACKED, given))


@pytest.mark.slow
def test_a_packed_network_needs_no_torch(photos: Path) -> None:
    code = (
        "import sys, irbin; from irbin.cli.app import main; "
        f"assert main(['predict', {PACKED!r}, sys.argv[1]]) == 0; "
        "assert 'torch' not in sys.modules and 'timm' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, photos],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 18
