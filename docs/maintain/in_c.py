"""A program of its own: the column `c` of `docs/coverage.csv`, for the rows that lack it.

    python -m docs.maintain.in_c docs/coverage.csv [--packed DIR] [SOURCE …]

converts each network as the sweep does (random weights, measured batch norm, no step), packs
it, writes it as C, builds that with gcc and runs its test, which compares every result of every
call. `--packed DIR` keeps packed folders there and takes those that are there already; `--anew`
tries rows that have been tried too.
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

from docs.maintain.coverage import EQUAL, NOT_TRIED, Row, images, randomize, read_rows, write_rows
from irbin import verbs
from irbin.artifact.read import read_artifact
from irbin.emit.folder import write_c
from irbin.errors import IrbinError, LowerError
from irbin.records.in_c import COptions
from irbin.records.options import SourceOptions
from irbin.rewriting.calibrate import reestimate_batch_norm
from irbin.sources.spec import load_source

REFUSED, BY_DEFINITION = "refused: ", "by definition: "
N_IMAGES = 1


def in_c(packed: Path, place: Path) -> str:
    """What becomes of a packed folder as C.

    `equal`, `refused: ` and operators, what differs; or `by definition: ` and the operators that
    `irbin.load` leaves to torch, where C computes them as they are defined.

    Args:
        packed: the folder.
        place: a folder to write the C to.
    """
    try:
        options = COptions("net", test_images=N_IMAGES, weights="binary")
        record = write_c(read_artifact(packed), place, spec="network", options=options)
    except LowerError as error:
        return REFUSED + (", ".join(operators(str(error))) or str(error))
    sources = [*sorted(place.glob("*.[cS]")), place / "test" / "main.c"]
    flags = ["-std=c11", "-O2", "-DIRBIN_TRACE", f"-I{place}", f"-Wa,-I{place}"]
    program = place / "t"
    command = ["gcc", *flags, *map(str, sources), "-lm", "-o", str(program)]
    made = subprocess.run(command, check=False, capture_output=True, text=True)
    if made.returncode:
        said = (line for line in made.stderr.splitlines() if " error: " in line)
        return f"does not compile: {next(said, made.stderr[:80]).partition(' error: ')[2]}"
    command = [str(program), str(place / "test" / "vectors.bin")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        return f"differs: {(done.stdout.splitlines() or [f'ended with {done.returncode}'])[0]}"
    return BY_DEFINITION + ", ".join(record.by_definition) if record.by_definition else EQUAL


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
        except MemoryError:
            return "not tried: memory"


def main(arguments: Sequence[str] | None = None) -> None:
    """Fills the column; the file is written anew after every network."""
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path)
    parser.add_argument("--packed", type=Path)
    parser.add_argument("--anew", action="store_true")
    parser.add_argument("sources", nargs="*")
    asked = parser.parse_intermixed_args(arguments)
    if shutil.which("gcc") is None:
        parser.error("expected gcc")
    for row in sorted(read_rows(asked.path), key=lambda row: row.seconds):
        is_done = row.c and not row.c.startswith(NOT_TRIED[0])
        if (is_done and not asked.anew) or (asked.sources and row.source not in asked.sources):
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
