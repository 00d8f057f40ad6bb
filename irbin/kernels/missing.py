"""Why there is no extension module, and the command that builds one.

pip keeps wheels that it built: without `--no-cache-dir` and `--force-reinstall` it says that all is
there, or installs once more the one without kernels, whatever compiler came since.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
import struct
import sys
from pathlib import Path

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


def refuse_damaged(library: Path) -> None:
    """Refuses a library that is not whole, which would end the process or compute anything.

    Args:
        library: the file that an import of the module would load.

    Raises:
        ImportError: a full disk cut it short; or it was overwritten after pip installed it.
    """
    try:
        content = library.read_bytes()
    except OSError:
        return  # the loader says why
    if _is_cut_short(content):
        raise ImportError(f"{library}: cut short at {len(content):,} bytes", path=str(library))
    if _is_overwritten(content, library):
        raise ImportError(f"{library}: not the bytes that pip installed", path=str(library))


def _is_cut_short(content: bytes) -> bool:
    """Whether the table of sections (System V ABI, ELF-64 header) lies beyond the end.

    Linkers write it last. The loader of Linux ends the process on such a file.
    """
    if len(content) < _ELF.size or not content.startswith(b"\x7fELF\x02\x01"):
        return False  # another system's, or what the loader itself refuses
    start, size, number = _ELF.unpack_from(content)
    return bool(start + size * number > len(content))


def _is_overwritten(content: bytes, library: Path) -> bool:
    """Whether the file has the size that pip noted of it, and another content.

    What was stripped or linked anew on purpose has another size. In an editable installation,
    where pip notes none of the modules, a build that pip knows nothing of may replace it.
    """
    site = library.parents[2]
    name = library.relative_to(site).as_posix()
    for record in site.glob("irbin-*.dist-info/RECORD"):
        noted = [line.split(",") for line in _text(record).splitlines()]
        sizes = {row[0]: row[-1] for row in noted}
        if "irbin/__init__.py" in sizes and sizes.get(name) == str(len(content)):
            return [name, _sha256(content), str(len(content))] not in noted
    return False


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace")
    except OSError:
        return ""


def _sha256(content: bytes) -> str:
    """In the spelling of `RECORD` (PEP 376)."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest())
    return f"sha256={digest.decode().rstrip('=')}"


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
    # hundreds of modules, and where nothing is missing nobody needs them
    from importlib import metadata
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

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
