"""The folder of C that `exporting.export_c` writes: sources and tests, whole or not at all."""

from __future__ import annotations

import re
from pathlib import Path

from irbin.artifact.read import Artifact
from irbin.emit.placed import placed
from irbin.emit.sources import Network, sources
from irbin.emit.vectors import answer, vectors
from irbin.errors import UsageError
from irbin.files import check_place, refuse_taken, whole_folder
from irbin.records.in_c import COptions
from irbin.records.results import CRecord

MARK = "irbin_nn.c"
"""The file by which such a folder is known again."""
_WORDS = (
    "auto break case char const continue default do double else enum extern float for goto if "
    "inline int long register restrict return short signed sizeof static struct switch typedef "
    "union unsigned void volatile while bool class namespace new private public template this "
    "irbin irbin_nn irbin_simd compute main test"
)
_HEADERS = (
    "assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal "
    "stdalign stdarg stdatomic stdbool stddef stdint stdio stdlib stdnoreturn string tgmath "
    "threads time uchar wchar wctype immintrin arm_neon"
)
"""`NAME.h` would stand in their place."""
_TARGETS = "all clean depend edit_cache help install package preinstall rebuild_cache"
RESERVED = frozenset(f"{_WORDS} {_HEADERS} {_TARGETS}".split())
"""Words of C and C++, names that the sources use, headers, and what CMake calls targets."""


def c_name(text: str) -> str:
    """A name for C made of a network's: `zoo:resnet20-cifar10-1w1a` → `resnet20_cifar10_1w1a`."""
    words = re.sub(
        r"[^a-z0-9]+", "_", text.rstrip("/").rsplit(":", 1)[-1].rsplit("/", 1)[-1].lower()
    )
    name = words.strip("_") or "network"
    return name if name[0].isalpha() and name not in RESERVED else f"net_{name}"


def write_c(
    artifact: Artifact,
    out: Path,
    *,
    spec: str,
    options: COptions | None = None,
    overwrite: bool = False,
) -> CRecord:
    """Writes a packed network as C.

    Args:
        artifact: a packed folder.
        out: folder to write.
        spec: what it is called in comments.
        options: its name, made of `spec` where there is none; what it reads; how.
        overwrite: replace `out` if it is such a folder.

    Raises:
        UsageError: `name` is no name in C, the network reads no bytes, or `out` stands in the way.
        LowerError: C is not written for something in it; nodes and operators are named.
    """
    asked = options or COptions()
    name = _checked_name(asked.name, spec)
    refuse_existing_c(out, overwrite)
    check_place(out)
    calls = placed(artifact, asked.input)
    network = Network(
        name, artifact, calls, spec, answer(artifact, calls), asked.weights, asked.kernels
    )
    made = sources(network)
    made.files["test/vectors.bin"] = vectors(artifact, calls, asked.test_images)
    with whole_folder(out, overwrite=overwrite) as partial:
        for path, content in made.files.items():
            (partial / path).parent.mkdir(exist_ok=True)
            of_bytes = content if isinstance(content, bytes) else content.encode("utf-8")
            (partial / path).write_bytes(of_bytes)
    n_bytes = calls.arena_bytes, made.weight_bytes
    return CRecord(
        str(out), name, network.function, *n_bytes, len(calls.calls), calls.by_definition
    )


def _checked_name(name: str | None, spec: str) -> str:
    if name is None:
        return c_name(spec)
    if re.fullmatch(r"[a-z][a-z0-9_]{0,62}", name) is None or name in RESERVED:
        raise UsageError(
            "`name`: expected small letters, digits and `_` that begin with a letter and are no "
            f"word or header of C and no target of CMake, got `{name}`"
        )
    return name


def refuse_existing_c(out: Path, overwrite: bool) -> None:
    """Checks, before any work is done, that a folder of C may be written.

    Raises:
        UsageError: it exists; or, with `overwrite`, it is something else.
    """
    is_such = out.is_dir() and (not any(out.iterdir()) or (out / MARK).is_file())
    refuse_taken(out, overwrite, is_such, "folder of C from irbin")
