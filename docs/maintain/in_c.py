"""A program of its own: the column `c` of `docs/coverage.csv`, for the rows that lack it.

    python -m docs.maintain.in_c docs/coverage.csv [--packed DIR] [SOURCE …]

converts each network as the sweep does (random weights, measured batch norm, no step), packs
it, writes it as C, builds that with gcc and runs its test, which compares every result of every
call. `--packed DIR` keeps packed folders there and takes those that are there already.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from docs.maintain.coverage import EQUAL, Row, images, randomize, read_rows, write_rows
from irbin import verbs
from irbin.artifact.read import read_artifact
from irbin.emit.folder import write_c
from irbin.errors import IrbinError, LowerError
from irbin.records.in_c import COptions
from irbin.records.options import SourceOptions
from irbin.rewriting.calibrate import reestimate_batch_norm
from irbin.sources.spec import load_source

REFUSED = "refused: "
N_IMAGES = 1


def in_c(packed: Path, place: Path) -> str:
    """What becomes of a packed folder as C: `equal`, `refused: ` and operators, or what differs.

    Args:
        packed: the folder.
        place: a folder to write the C to.
    """
    try:
        options = COptions("net", test_images=N_IMAGES)
        write_c(read_artifact(packed), place, spec="network", options=options)
    except LowerError as error:
        return REFUSED + (", ".join(operators(str(error))) or str(error))
    sources = [*map(str, sorted(place.glob("*.c"))), str(place / "test" / "main.c")]
    program, vectors = str(place / "t"), str(place / "test" / "vectors.bin")
    command = [
        "gcc",
        "-std=c11",
        "-O1",
        "-DIRBIN_TRACE",
        f"-I{place}",
        *sources,
        "-lm",
        "-o",
        program,
    ]
    subprocess.run(command, check=True, capture_output=True)
    done = subprocess.run([program, vectors], check=False, capture_output=True, text=True)
    return EQUAL if done.returncode == 0 else f"differs: {done.stdout.splitlines()[0]}"


def operators(message: str) -> list[str]:
    """Those that a refusal names, without where they are from."""
    return sorted({name.split(".")[1] for name in re.findall(r"\((aten\.[\w.]+)\)", message)})


def pack(row: Row, packed: Path) -> None:
    """A network of the sweep as a packed folder at 1w1a.

    Args:
        row: which network.
        packed: written.
    """
    torch.manual_seed(0)
    size = row.input_size
    options = SourceOptions(pretrained=False, input_size=(3, size, size))
    network = load_source(row.source, options)
    randomize(network.module)
    binary = verbs.convert(network, bits="1w1a")
    reestimate_batch_norm(binary.module, [images(size, 4, seed=2)])
    verbs.export(binary, packed)


def column(row: Row, kept: Path | None) -> str:
    """What the column says of a network.

    Args:
        row: which network.
        kept: where packed folders are kept, or None.
    """
    with tempfile.TemporaryDirectory() as place:
        packed = (kept or Path(place)) / re.sub("[:/]", "_", row.source)
        try:
            if not packed.exists():
                pack(row, packed)
            return in_c(packed, Path(place, "c"))
        except IrbinError as error:
            return f"{type(error).__name__}: {error}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Fills the column; the file is written anew after every network."""
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path)
    parser.add_argument("--packed", type=Path)
    parser.add_argument("sources", nargs="*")
    asked = parser.parse_intermixed_args(arguments)
    if shutil.which("gcc") is None:
        parser.error("expected gcc")
    for row in sorted(read_rows(asked.path), key=lambda row: row.seconds):
        if row.c or (asked.sources and row.source not in asked.sources):
            continue
        said = column(row, asked.packed)
        print(f"{row.source}: {said}", flush=True)
        rows = read_rows(asked.path)  # another may have written meanwhile
        for one in rows:
            if one.source == row.source:
                one.c = said
        write_rows(rows, asked.path)


if __name__ == "__main__":
    main()
