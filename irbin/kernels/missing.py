"""Why there is no extension module, and the command that builds one.

pip keeps wheels that it built: without `--no-cache-dir` and `--force-reinstall` it says that all is
there, or installs once more the one without kernels, whatever compiler came since.
"""

from __future__ import annotations

import json
import os
import shlex
import struct
import sys
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from irbin.messages import one_line

MODULE = "irbin.kernels._native"


def why(error: ImportError, folder: Path) -> str:
    """Why the module in `folder` could not be imported, and what to do, in one line."""
    if not isinstance(error, ModuleNotFoundError) or error.name != MODULE:
        said = one_line(error)
        return f"the native kernels cannot be loaded ({said}); {_rebuild(folder)} builds them anew"
    if _is_checkout(folder):
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        other = _installed(folder)
        elsewhere = f" (the irbin in {other} has kernels, and is not the one that runs)"
        return (
            f"irbin is imported from the checkout {folder.parents[1]}, whose native kernels are "
            f"not built for Python {version}{elsewhere if other else ''}; {_rebuild(folder)} "
            "builds them or shows why not"
        )
    return (
        "irbin was installed without native kernels: no C++17 compiler was found (GCC or Clang), "
        f"or the build failed; {_rebuild(folder)} builds them or shows why not"
    )


def refuse_cut_short(folder: Path) -> None:
    """Refuses a library that a full disk cut short: the loader of Linux ends the process on it.

    Args:
        folder: of the package that the module is in; wherever an import of it would look.

    Raises:
        ImportError: the table of its sections (System V ABI, ELF-64 header), which linkers write
            last, lies beyond its end.
    """
    spec = PathFinder.find_spec(MODULE, [str(folder)])
    if spec is None or spec.origin is None:
        return
    try:
        with Path(spec.origin).open("rb") as file:
            header = file.read(_ELF.size)
            n_bytes = file.seek(0, os.SEEK_END)
    except OSError:
        return  # the loader says why
    if len(header) < _ELF.size or not header.startswith(b"\x7fELF\x02\x01"):
        return  # another system's, or what the loader itself refuses
    start, size, number = _ELF.unpack(header)
    if start + size * number > n_bytes:
        raise ImportError(f"{spec.origin}: cut short at {n_bytes:,} bytes", path=spec.origin)


_ELF = struct.Struct("<40xQ10xHH2x")
"""Where the table of sections begins, the size of an entry and their number."""


def _is_checkout(folder: Path) -> bool:
    return (folder / "csrc").is_dir()  # which only the source tree has


def _installed(folder: Path) -> Path | None:
    """Where another irbin is installed, with kernels, than the one with `folder`."""
    for entry in map(Path, sys.path):
        there = entry / "irbin" / "kernels"
        if there != folder and any(there.glob("_native.*")) and (there / "native.py").is_file():
            return entry
    return None


def _rebuild(folder: Path) -> str:
    """The command that compiles, in backticks, and where to give it if that matters."""
    if _is_checkout(folder):
        return f"`pip install -v -e {shlex.quote(str(folder.parents[1]))}`"
    source = _source()
    place = " in irbin's source" if source == "." else ""
    return (
        f"`pip install -v --no-cache-dir --force-reinstall --no-deps {shlex.quote(source)}`{place}"
    )


def _source() -> str:
    """What pip installed irbin from, in its words; `.` for a folder or file that is gone."""
    try:
        said = json.loads(metadata.distribution("irbin").read_text("direct_url.json") or "{}")
    except (metadata.PackageNotFoundError, ValueError):
        return "."
    url = str(said.get("url", ""))
    if not url:
        return "irbin"  # by its name, from an index
    if "vcs_info" in said:
        return f"{said['vcs_info']['vcs']}+{url}@{said['vcs_info']['commit_id']}"
    if not url.startswith("file:"):
        return url
    path = url2pathname(urlsplit(url).path)
    return path if Path(path).exists() else "."
