"""What is written appears whole or not at all, whatever stood there before."""

from __future__ import annotations

import errno
import fcntl
import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

import irbin
from irbin import files
from irbin.errors import UsageError
from irbin.files import (
    beside,
    check_place,
    current,
    put_in_place,
    remove,
    whole_folder,
    write_file,
)


def test_files_are_replaced_whole(tmp_path: Path) -> None:
    for content in (b"long content", b"", b"x"):
        write_file(tmp_path / "file", content)
        assert (tmp_path / "file").read_bytes() == content
        assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with a name are POSIX's")
def test_a_device_or_pipe_is_refused_and_stays(tmp_path: Path) -> None:
    """As a device of the system's would be renamed over by whoever may."""
    pipe, link, partial = tmp_path / "pipe", tmp_path / "link", tmp_path / "partial"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    partial.write_bytes(b"new")
    for path in (pipe, link):
        for put in (
            lambda path=path: files.write_file(path, b"new"),
            lambda path=path: files.put_file_in_place(partial, path),
            lambda path=path: files.check_place(path),
        ):
            with pytest.raises(UsageError, match="a device or a pipe; choose another place"):
                put()
    assert pipe.is_fifo()
    assert link.is_symlink()


def test_a_full_disk_names_the_file_and_leaves_the_old_one_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file(tmp_path / "file", b"old")

    def fsync(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "os", SimpleNamespace(name="posix", fsync=fsync))
    with pytest.raises(OSError, match="No space") as caught:
        write_file(tmp_path / "file", b"new")
    assert caught.value.filename == str(tmp_path / "file")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"old")]


@pytest.mark.parametrize("below", ["x", "x/y"])
def test_a_file_in_the_way_is_named_before_the_work(tmp_path: Path, below: str) -> None:
    (tmp_path / "my.py").write_text("mine")
    with pytest.raises(UsageError, match=r"/x(/y)?` cannot be made: `.*my\.py` is no folder"):
        check_place(tmp_path / "my.py" / below)
    check_place(tmp_path / "new" / below)
    assert [path.name for path in tmp_path.iterdir()] == ["my.py"]


def test_a_folder_that_takes_no_files_is_named_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mkdtemp(**_: object) -> str:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(files, "tempfile", SimpleNamespace(mkdtemp=mkdtemp))
    with pytest.raises(UsageError, match=rf"`{tmp_path}` takes no new files \(Read-only file sys"):
        check_place(tmp_path / "new")


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


@pytest.fixture
def new_over_old(tmp_path: Path) -> Path:
    """Where a folder `old` stands and `new` is to take its place."""
    place = tmp_path / "out"
    for folder, name in ((place, "old"), (beside(place), "new")):
        folder.mkdir()
        (folder / name).write_text(name)
    return place


def test_on_windows_files_are_flushed_as_it_wants(
    new_over_old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = []

    def fsync(number: int) -> None:
        modes.append(fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE)

    monkeypatch.setattr(files, "os", SimpleNamespace(name="nt", fsync=fsync))
    put_in_place(beside(new_over_old), new_over_old)
    assert modes == [os.O_RDWR]  # one that is only read is refused there


def test_a_file_that_may_only_be_read_is_put_in_place(new_over_old: Path) -> None:
    (beside(new_over_old) / "new").chmod(0o444)
    put_in_place(beside(new_over_old), new_over_old)
    assert [path.name for path in new_over_old.iterdir()] == ["new"]


def test_where_the_new_folder_cannot_be_renamed_the_old_one_stands(
    new_over_old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def refused(self: Path, target: Path) -> Path:
        if self == beside(new_over_old):  # as where a file in it is mapped or scanned
            raise PermissionError(13, "in use", str(self))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(PermissionError):
        put_in_place(beside(new_over_old), new_over_old)
    assert [path.name for path in new_over_old.iterdir()] == ["old"]


def test_an_old_folder_in_use_does_not_fail_what_is_done(
    new_over_old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path) -> None:
        if path.exists():
            raise PermissionError(13, "in use", str(path))

    monkeypatch.setattr(files, "remove", refused)
    put_in_place(beside(new_over_old), new_over_old)
    assert [path.name for path in new_over_old.iterdir()] == ["new"]


def test_removing_a_link_leaves_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    remove(tmp_path / "link")
    remove(tmp_path / "nothing")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_the_previous_folder_is_found_when_a_save_was_cut(tmp_path: Path) -> None:
    assert current(tmp_path / "last") is None
    (tmp_path / "last.previous").mkdir()
    assert current(tmp_path / "last") == tmp_path / "last.previous"
    (tmp_path / "last.partial").mkdir()  # of the save that was cut
    with whole_folder(tmp_path / "last"):
        pass
    assert current(tmp_path / "last") == tmp_path / "last"
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_a_folder_that_cannot_be_filled_leaves_the_old_one(tmp_path: Path) -> None:
    place = tmp_path / "last"
    place.mkdir()
    (place / "old").write_text("kept")

    def fail() -> None:
        with whole_folder(place) as folder:
            (folder / "half").write_text("")
            raise OSError(errno.ENOSPC, "no space left")

    with pytest.raises(OSError, match="no space left") as caught:
        fail()
    assert caught.value.filename == str(place)
    assert [path.name for path in tmp_path.iterdir()] == ["last"]
    assert (place / "old").read_text() == "kept"
    with whole_folder(place):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["last"]
    assert list(place.iterdir()) == []


def test_only_files_puts_in_place() -> None:
    root = Path(irbin.__file__).parent
    words = r"\.rename\(|os\.replace|\.replace\((partial|path)|\.partial|NamedTemporary|mkstemp"
    own = [
        f"{path.relative_to(root)}: {line.strip()}"
        for path in root.rglob("*.py")
        if path.name != "files.py"
        for line in path.read_text("utf-8").splitlines()
        if re.search(words, line)
    ]
    assert own == []


def test_nothing_is_written_under_a_name_that_is_no_text(tmp_path: Path) -> None:
    """A run was trained there whose weights nobody could read again."""
    with pytest.raises(UsageError, match=r"\\udcff/run` cannot be made: its name is not UTF-8;"):
        check_place(tmp_path / "\udcff" / "run")
