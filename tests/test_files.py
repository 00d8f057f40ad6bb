"""What is written appears whole or not at all, whatever stood there before."""

from __future__ import annotations

from pathlib import Path

import pytest

from irbin.files import beside, current, put_in_place, remove, write_file


def test_files_are_replaced_whole(tmp_path: Path) -> None:
    for content in (b"long content", b"", b"x"):
        write_file(tmp_path / "file", content)
        assert (tmp_path / "file").read_bytes() == content
        assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("before", ["nothing", "file", "folder"])
def test_a_folder_takes_the_place_of_whatever_stood_there(tmp_path: Path, before: str) -> None:
    place = tmp_path / "out"
    if before == "file":
        place.write_text("old")
    elif before == "folder":
        place.mkdir()
        (place / "old").write_text("old")
    beside(place).mkdir()
    (beside(place) / "new").write_text("new")
    put_in_place(beside(place), place)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in place.iterdir()] == ["new"]
    assert current(place) == place


def test_removing_a_link_leaves_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    remove(tmp_path / "link")
    remove(tmp_path / "nothing")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
