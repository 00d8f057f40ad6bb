from __future__ import annotations

import glob
import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from irbin.errors import DataError, UsageError
from irbin.prediction.named import pictures


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("10.png", "2.PNG", "sub/a.webp", ".hidden.png", "._2.png", "notes.txt"):
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
    (tmp_path / "photos" / ".cache").mkdir()
    (tmp_path / "photos" / ".cache" / "x.png").write_bytes(b"")
    return tmp_path / "photos"


def names(*given: object) -> list[str]:
    return [name.replace(os.sep, "/") for name, _ in pictures(given)]


def test_a_folder_is_searched_in_natural_order_without_what_is_hidden(photos: Path) -> None:
    assert names("photos") == ["photos/2.PNG", "photos/10.png", "photos/sub/a.webp"]


def test_a_pattern_matches_files_alone(photos: Path) -> None:
    assert names("photos/*.png") == ["photos/10.png"]
    assert names("photos/**/*.webp") == ["photos/sub/a.webp"]
    assert "photos/sub" not in names("photos/**")


def test_a_pattern_passes_over_links_that_lead_back(photos: Path) -> None:
    """Two of them, and Python's own `glob` does not end."""
    for name in ("sub/up", "sub/top", "again"):
        (photos / name).symlink_to(photos, target_is_directory=True)
    wanted = ["photos/sub/a.webp"]
    assert names("photos/**/*.webp") == names("photos/**/**/*.webp") == wanted
    assert names("**/*.webp") == names("p*/**/s*/*.webp") == wanted
    assert names(f"{photos}/**/*.webp") == [str(photos / "sub" / "a.webp")]
    assert names("photos/**") == names("photos/**/*")


@pytest.mark.parametrize("pattern", ["**", "**/*", "photos/**", "*/**/*.png", "./photos/**/?.*"])
def test_a_pattern_finds_what_glob_finds(photos: Path, pattern: str) -> None:
    (photos / "a" / "[b]" / "c").mkdir(parents=True)
    (photos / "a" / "[b]" / "c" / "1.png").write_bytes(b"")
    expected = {path for path in glob.glob(pattern, recursive=True) if not os.path.isdir(path)}
    assert set(names(pattern)) == {path.replace(os.sep, "/") for path in expected}


def test_a_name_that_looks_like_a_pattern_is_a_name_first(photos: Path) -> None:
    (photos / "[1].png").write_bytes(b"")
    assert names("photos/[1].png") == ["photos/[1].png"]


def test_a_file_is_taken_whatever_it_is_called(photos: Path) -> None:
    assert names(photos / "notes.txt", "photos/2.PNG") == [
        str(photos / "notes.txt"),
        "photos/2.PNG",
    ]


def test_arrays_and_images_are_called_by_their_place(photos: Path) -> None:
    array = np.zeros((2, 2, 3), np.uint8)
    assert names(array, "photos/2.PNG", Image.new("L", (1, 1))) == ["0", "photos/2.PNG", "2"]


def test_the_dash_is_standard_input() -> None:
    assert names("-") == ["-"]


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("nope.png", UsageError, "`nope.png`, which is not there"),
        ("photos/*.bmp", DataError, r"match `photos/\*.bmp`, found none"),
        ("empty", DataError, r"pictures in the folder empty \(.png, "),
    ],
)
def test_what_is_not_there_is_told_before_anything_is_read(
    photos: Path, name: str, error: type[Exception], message: str
) -> None:
    (photos.parent / "empty").mkdir()
    with pytest.raises(error, match=message):
        pictures(["photos", name])


def test_a_stream_without_an_end_is_read_as_it_comes() -> None:
    endless = (np.zeros((1, 1), np.uint8) for _ in itertools.count())
    assert [name for name, _ in itertools.islice(pictures(endless), 3)] == ["0", "1", "2"]
