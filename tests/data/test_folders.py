from __future__ import annotations

import io
import logging
import tarfile
from pathlib import Path

import numpy as np
import pytest

from irbin.data import class_names, open_dataset
from irbin.data.folders import is_hidden
from irbin.errors import DataError
from irbin.records.options import DataOptions

from .conftest import TINY, png

PIXELS = png(np.zeros((8, 8, 3), np.uint8))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """`val` with two images in each of three classes."""
    for name in ("ant", "bee", "cat"):
        (tmp_path / "val" / name).mkdir(parents=True)
        for index in range(2):
            (tmp_path / "val" / name / f"{index}.png").write_bytes(PIXELS)
    return tmp_path


def opened(root: Path, **changes: str):
    return open_dataset(DataOptions(data_dir=str(root), workers=0, **changes), "validation", TINY)


@pytest.mark.parametrize(
    "hidden", ["bee/._0.png", ".ipynb_checkpoints/0.png", "__MACOSX/bee/0.png", "cat/.x/0.png"]
)
def test_hidden_files_and_folders_are_no_images_and_no_classes(root: Path, hidden: str) -> None:
    file = root / "val" / hidden
    file.parent.mkdir(exist_ok=True, parents=True)
    file.write_bytes(b"Mac OS X")
    dataset = opened(root)
    assert len(dataset) == 6
    assert class_names(dataset) == ("ant", "bee", "cat")


def test_hidden_files_in_a_tar(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "val.tar", "w") as archive:
        for name in ("a/0.png", "b/0.png", "b/._0.png", "__MACOSX/._b.png", ".git/c.png"):
            info = tarfile.TarInfo(name)
            info.size = len(PIXELS)
            archive.addfile(info, io.BytesIO(PIXELS))
    dataset = opened(tmp_path)
    assert class_names(dataset) == ("a", "b")
    assert dataset.base.reader.targets == [0, 1]
    (tmp_path / "map.txt").write_text("b\na\n")
    dataset = opened(tmp_path, class_map=str(tmp_path / "map.txt"))
    assert dataset.base.reader.targets == [1, 0]
    (tmp_path / "map.txt").write_text("b\n")
    with pytest.raises(DataError, match=r"`a` of 2 have none \(1 image\)"):
        opened(tmp_path, class_map=str(tmp_path / "map.txt"))


@pytest.mark.parametrize(
    ("path", "hidden"),
    [("a/b.png", False), ("a/.b.png", True), (".a/b.png", True), ("../a/b.png", False)],
)
def test_what_is_hidden(path: str, hidden: bool) -> None:
    assert is_hidden(path) is hidden


def test_files_of_other_types_are_counted(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("ant/2.webp", "ant/3.webp", "bee/2.TIFF", "bee/readme.txt"):
        (root / "val" / name).write_bytes(b"x")
    with caplog.at_level(logging.WARNING, "irbin"):
        assert len(opened(root)) == 6
    (message,) = caplog.messages
    assert "3 files of other types left out (2 × `.webp`, 1 × `.tiff`); read are `.png`" in message


def test_nothing_but_other_types(tmp_path: Path) -> None:
    (tmp_path / "val" / "ant").mkdir(parents=True)
    (tmp_path / "val" / "ant" / "0.webp").write_bytes(b"x")
    message = r"got: Found 0 images .*; 1 file of other types left out \(1 × `\.webp`\)"
    with pytest.raises(DataError, match=message):
        opened(tmp_path)


@pytest.mark.parametrize("place", [".", "val"])
def test_a_flat_folder_of_images_has_no_classes(tmp_path: Path, place: str) -> None:
    (tmp_path / place).mkdir(exist_ok=True)
    for index in range(3):
        (tmp_path / place / f"{index}.png").write_bytes(PIXELS)
    message = r"^expected a folder for each class in .*, found 3 images directly in it \(`0\.png` …"
    with pytest.raises(DataError, match=message):
        opened(tmp_path)


def test_an_image_beside_the_class_folders(root: Path) -> None:
    (root / "val" / "cover.png").write_bytes(PIXELS)
    message = r"in the folder of its class, found 1 of 7 outside \(`cover\.png` …\); move or remove"
    with pytest.raises(DataError, match=message):
        opened(root)


def test_a_short_class_map_loses_no_image_in_silence(root: Path) -> None:
    (root / "map.txt").write_text("cat\n\n")
    message = (
        r"^`class_map=`: expected a line for every class in .*val, `ant`, `bee` of 3 have none "
        r"\(4 images\); add them, or remove their folders$"
    )
    with pytest.raises(DataError, match=message):
        opened(root, class_map=str(root / "map.txt"))


def test_a_mark_before_the_first_line_is_no_part_of_its_class(root: Path) -> None:
    (root / "map.txt").write_text("cat\nbee\nant\n", encoding="utf-8-sig")
    assert class_names(opened(root, class_map=str(root / "map.txt"))) == ("cat", "bee", "ant")


def test_a_longer_class_map_is_taken(root: Path) -> None:
    (root / "map.txt").write_text("dog\ncat\nbee\nant\n")
    dataset = opened(root, class_map=str(root / "map.txt"))
    assert class_names(dataset) == ("dog", "cat", "bee", "ant")
    assert [label for _, label in dataset.base.reader.samples] == [3, 3, 2, 2, 1, 1]


@pytest.mark.parametrize(
    ("content", "why"),
    [(None, "no such file"), (b"\xff\xfe", "'utf-8' codec can't decode byte 0xff")],
    ids=["missing", "no text"],
)
def test_a_class_map_that_cannot_be_read_is_named(
    root: Path, content: bytes | None, why: str
) -> None:
    if content is not None:
        (root / "map.txt").write_bytes(content)
    with pytest.raises(DataError, match=rf"^`class_map=`: expected a file .*map\.txt: {why}"):
        opened(root, class_map=str(root / "map.txt"))


@pytest.mark.parametrize(
    ("content", "line"),
    [("ant\nbee\ncat\ncat\n", 3), ("ant\n\nbee\ncat\n", 2), ("\nant\nbee\ncat\n", 1)],
    ids=["a name twice", "an empty line between", "an empty line first"],
)
def test_a_class_map_that_leaves_a_number_out_is_refused(
    root: Path, content: str, line: int
) -> None:
    """Its last number has no output in the network: torch then fails on the first batch."""
    (root / "map.txt").write_text(content)
    message = rf"^`class_map=`: expected a class of its own on every line .* on line {line}: it is"
    with pytest.raises(DataError, match=message):
        opened(root, class_map=str(root / "map.txt"))


def test_folders_that_hold_no_image_are_told(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "val" / "asp" / "deep").mkdir(parents=True)
    (root / "val" / "bat").mkdir()
    with caplog.at_level(logging.WARNING, "irbin"):
        assert class_names(opened(root)) == ("ant", "bee", "cat")
    (message,) = caplog.messages
    assert message.endswith("val: 2 folders without an image, no class (`asp`, `bat`)")


def test_classes_whose_names_differ_little_have_one_order(root: Path) -> None:
    """It was that of a set of texts, another one in every process."""
    for old, new in (("ant", "01"), ("bee", "1"), ("cat", "001")):
        (root / "val" / old).rename(root / "val" / new)
    assert class_names(opened(root)) == ("001", "01", "1")


def test_a_class_whose_name_is_no_text_is_refused(root: Path) -> None:
    (root / "val" / "ant").rename(root / "val" / "\udcff")
    with pytest.raises(DataError, match=r"named in UTF-8, got '\\udcff'; rename it"):
        opened(root)


def test_a_class_called_by_a_digit_that_is_no_number(root: Path) -> None:
    (root / "val" / "ant").rename(root / "val" / "²")
    assert class_names(opened(root)) == ("bee", "cat", "²")


def test_such_a_class_in_a_tar_is_named(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "val.tar", "w") as archive:
        info = tarfile.TarInfo("²/0.png")
        info.size = len(PIXELS)
        archive.addfile(info, io.BytesIO(PIXELS))
    with pytest.raises(DataError, match="digit like `²` in it, which timm cannot put in order"):
        opened(tmp_path)
