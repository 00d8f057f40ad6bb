from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from irbin.errors import DataError
from irbin.searched import natural, searched


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def found(root: Path) -> list[str]:
    listed = searched(str(root), {".png"})
    return [
        os.path.relpath(os.path.join(at, name), root) for at, names, _ in listed for name in names
    ]


def test_names_stand_by_the_size_of_their_numbers_whatever_else_they_hold() -> None:
    names = ["²", "10", "2", "a10", "a9", "B", "a²1", "٣"]
    assert sorted(names, key=natural) == ["2", "٣", "10", "a9", "a10", "a²1", "B", "²"]


@pytest.mark.parametrize("names", [("Cat", "cat"), ("001", "01", "1")])
def test_names_that_differ_little_stand_in_one_order(names: tuple[str, ...]) -> None:
    reversed_ = names[::-1]
    assert sorted(reversed_, key=natural) == sorted(names)


def test_a_link_that_leads_back_is_not_followed(tmp_path: Path) -> None:
    """Two of them were followed forty times each, which no walk ends."""
    make(tmp_path, "a/0.png", "b/1.png")
    for name in ("a", "b"):
        (tmp_path / name / "up").symlink_to("..")
    (tmp_path / "b" / "other").symlink_to("../a")
    assert found(tmp_path) == ["a/0.png", "b/1.png", "b/other/0.png"]


def test_a_link_that_leads_nowhere_is_a_name(tmp_path: Path) -> None:
    (tmp_path / "gone.png").symlink_to("nowhere")
    (tmp_path / "self.png").symlink_to("self.png")
    assert found(tmp_path) == ["gone.png", "self.png"]


def test_a_folder_called_as_a_picture_is_a_folder(tmp_path: Path) -> None:
    make(tmp_path, "a.png/b.PNG", "a.png/c.txt")
    assert list(searched(str(tmp_path), {".png"})) == [
        (str(tmp_path), [], []),
        (str(tmp_path / "a.png"), ["b.PNG"], ["c.txt"]),
    ]


def test_a_folder_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its images were left out in silence."""
    make(tmp_path, "a/0.png", "b/1.png")
    scan = os.scandir

    def refuse(folder: str):
        if str(folder).endswith("b"):
            raise PermissionError(13, "Permission denied", folder)
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(
        DataError, match=r"can be read, got .*b: Permission denied; make it readabl"
    ):
        found(tmp_path)


def test_pictures_that_never_end_are_refused(tmp_path: Path) -> None:
    """Opening a pipe waits for ever for somebody who writes."""
    os.mkfifo(tmp_path / "notes")
    assert found(tmp_path) == []
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DataError, match=r"in files, got .*pipe\.png, which is a pipe, a socket or"):
        found(tmp_path)


def test_a_socket_is_no_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("s.png")
        with pytest.raises(DataError, match="which is a pipe, a socket or a device"):
            found(tmp_path)
