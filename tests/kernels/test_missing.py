"""Every way to have no native kernels names the command that really builds them."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from irbin.kernels import missing, native
from irbin.kernels.missing import refuse_damaged, why

ANEW = "`pip install -v --no-cache-dir --force-reinstall --no-deps {}`"


@pytest.fixture
def absent():
    return ModuleNotFoundError(f"No module named '{missing.MODULE}'", name=missing.MODULE)


@pytest.fixture
def checkout(tmp_path):
    (tmp_path / "irbin" / "kernels" / "csrc").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """irbin's metadata as pip writes them, with this beside; None for nothing."""

    def install(direct_url: str | None) -> None:
        site = tmp_path / "site"
        info = site / "irbin-0.1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: irbin\nVersion: 0.1.0\n")
        if direct_url is not None:
            (info / "direct_url.json").write_text(direct_url)
        monkeypatch.setattr(sys, "path", [str(site)])

    return install


def test_an_installation_says_what_failed_and_how_to_build_anew(absent, tmp_path, installed):
    installed(None)
    assert why(absent, tmp_path) == (
        "irbin was installed without native kernels: no C++17 compiler was found (GCC or "
        f"Clang), or the build failed; {ANEW.format('irbin')} builds them or shows why not"
    )


@pytest.mark.parametrize(
    ("direct_url", "source"),
    [
        (None, "irbin"),
        ({"url": "https://host/irbin.tar.gz", "archive_info": {}}, "https://host/irbin.tar.gz"),
        (
            {"url": "https://host/irbin", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            "git+https://host/irbin@abc",
        ),
    ],
    ids=["index", "archive", "repository"],
)
def test_it_is_built_from_where_it_came_from(absent, tmp_path, installed, direct_url, source):
    installed(direct_url and json.dumps(direct_url))
    assert f"; {ANEW.format(source)} builds" in why(absent, tmp_path)


@pytest.mark.parametrize("name", ["source", "a source"])
def test_it_is_built_from_the_folder_it_came_from(absent, tmp_path, installed, name):
    folder = tmp_path / name
    folder.mkdir()
    installed(json.dumps({"url": folder.as_uri(), "dir_info": {}}))
    written = f"'{folder}'" if " " in name else folder
    assert f"; {ANEW.format(written)} builds" in why(absent, tmp_path)


def test_a_source_that_is_gone_is_not_named(absent, tmp_path, installed):
    installed(json.dumps({"url": (tmp_path / "gone").as_uri(), "dir_info": {}}))
    assert f"; {ANEW.format('.')} in irbin's source builds" in why(absent, tmp_path)


@pytest.mark.parametrize("path", [[], None], ids=["no metadata", "damaged"])
def test_metadata_that_say_nothing_name_the_source(absent, tmp_path, installed, monkeypatch, path):
    if path is None:
        installed("{")
    else:
        monkeypatch.setattr(sys, "path", path)
    assert f"; {ANEW.format('.')} in irbin's source builds" in why(absent, tmp_path)


def test_a_checkout_is_called_one_and_no_word_is_of_compilers(absent, checkout, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(checkout)])
    assert why(absent, checkout / "irbin" / "kernels") == (
        f"irbin is imported from the checkout {checkout}, whose native kernels are not built for "
        f"Python {sys.version_info.major}.{sys.version_info.minor}; "
        f"`pip install -v -e {checkout}` builds them or shows why not"
    )


def test_in_a_checkout_the_installed_one_with_kernels_is_named(absent, checkout, monkeypatch):
    site = checkout / "site-packages"
    kernels = site / "irbin" / "kernels"
    kernels.mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [str(checkout), str(site)])
    (kernels / "native.py").touch()
    assert "has kernels" not in why(absent, checkout / "irbin" / "kernels")
    (kernels / "_native.so").touch()
    assert f"(the irbin in {site} has kernels, and is not the one that runs); " in why(
        absent, checkout / "irbin" / "kernels"
    )


def test_a_module_that_the_loader_refuses_is_built_anew(checkout, tmp_path, installed):
    installed(None)
    error = ImportError("undefined symbol", name=missing.MODULE)
    said = "the native kernels cannot be loaded (undefined symbol); "
    assert why(error, tmp_path) == f"{said}{ANEW.format('irbin')} builds them anew"
    there = checkout / "irbin" / "kernels"
    assert why(error, there) == f"{said}`pip install -v -e {checkout}` builds them anew"


def library(folder, n_bytes):
    """Half a 64-bit ELF header: a table of 4 sections of 64 bytes each at byte 1000."""
    header = bytearray(b"\x7fELF\x02\x01".ljust(64, b"\0"))
    struct.pack_into("<Q", header, 0x28, 1000)
    struct.pack_into("<HH", header, 0x3A, 64, 4)
    path = folder / f"_native{EXTENSION_SUFFIXES[0]}"
    path.write_bytes(bytes(header).ljust(n_bytes, b"\0"))
    return path


@pytest.mark.parametrize("n_bytes", [1255, 1000, 64])
def test_a_library_that_was_cut_short_is_not_given_to_the_loader(tmp_path, n_bytes):
    """Linux's loader maps what lies beyond the end, and the process ends without a word."""
    path = library(tmp_path, n_bytes)
    with pytest.raises(ImportError) as caught:
        refuse_damaged(path)
    assert str(caught.value) == f"{path}: cut short at {n_bytes:,} bytes"


def test_a_whole_library_or_another_file_is_the_loaders_business(tmp_path):
    refuse_damaged(tmp_path / "absent.so")
    path = library(tmp_path, 1256)
    refuse_damaged(path)
    for content in (b"", b"\x7fELF\x02\x01", b"MZ".ljust(200, b"\xff")):
        path.write_bytes(content)
        refuse_damaged(path)


@pytest.fixture
def installed_library(tmp_path):
    """As pip leaves it: a library and `RECORD`, which notes its digest and size."""
    kernels = tmp_path / "irbin" / "kernels"
    kernels.mkdir(parents=True)
    path = library(kernels, 1256)
    digest = base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest())
    (tmp_path / "irbin-0.1.0.dist-info").mkdir()
    (tmp_path / "irbin-0.1.0.dist-info" / "RECORD").write_text(
        "irbin/__init__.py,sha256=x,1\n"
        f"irbin/kernels/{path.name},sha256={digest.decode().rstrip('=')},1256\n"
        "irbin-0.1.0.dist-info/RECORD,,\n"
    )
    return path


@pytest.mark.parametrize("place", [64, 1000, 1255])
def test_a_library_that_was_overwritten_is_not_given_to_the_loader(installed_library, place):
    """What is not there is called, and the process ends without a word."""
    refuse_damaged(installed_library)
    with installed_library.open("r+b") as file:
        file.seek(place)
        file.write(b"\xff")
    with pytest.raises(ImportError) as caught:
        refuse_damaged(installed_library)
    assert str(caught.value) == f"{installed_library}: not the bytes that pip installed"


@pytest.mark.parametrize("how", ["stripped", "editable", "another's notes", "no text"])
def test_a_library_that_was_changed_on_purpose_is_loaded(installed_library, how):
    record = installed_library.parents[2] / "irbin-0.1.0.dist-info" / "RECORD"
    noted = record.read_text()
    if how == "stripped":
        installed_library.write_bytes(installed_library.read_bytes() + b"\0")
    else:
        library(installed_library.parent, 1257).write_bytes(b"\1" * 1256)
    if how == "editable":
        noted = noted.replace("irbin/__init__.py", "_editable_skbc_irbin.py")
    elif how == "another's notes":
        noted = noted.replace("irbin/kernels/_native", "irbin/kernels/_other")
    record.write_bytes(b"\xff\n,\n" if how == "no text" else noted.encode())
    refuse_damaged(installed_library)


@pytest.mark.skipif(not native.is_native(), reason="there are no native kernels")
def test_the_library_that_is_installed_is_whole(tmp_path):
    built = Path(native.module().__file__)
    refuse_damaged(built)
    copy = tmp_path / built.name
    copy.write_bytes(built.read_bytes())
    refuse_damaged(copy)
    if sys.platform == "linux":
        copy.write_bytes(built.read_bytes()[:-1])
        with pytest.raises(ImportError, match="cut short"):
            refuse_damaged(copy)
