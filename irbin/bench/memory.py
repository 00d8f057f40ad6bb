"""The memory a network adds: `python -m irbin.bench.memory packed|float FOLDER BATCH THREADS`.

Run by `irbin bench` in a process of its own. Prints the highest resident size while the network is
loaded and run, less that of the process before, in bytes; nothing where the system does not tell.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from irbin.records.options import SourceRecord
from irbin.runtime.loading import load
from irbin.runtime.model import PackedModel
from irbin.sources.spec import build

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
N_RUNS = 3


def measure(kind: str, folder: str, batch_size: int, n_threads: int) -> int | None:
    """Bytes that loading and running a network adds at the most.

    Args:
        kind: `packed`, or `float` for the network that a packed folder was made from.
        folder: a packed folder.
        batch_size: images a call.
        n_threads: of torch and the kernels.
    """
    torch.set_num_threads(n_threads)
    source = load(folder).manifest.source  # before the baseline: modules that both need
    size = (batch_size, *source.preprocessing.input_size)
    if kind == "float":
        build(source)
    before = _resident("VmRSS")
    if before is None or not _reset():
        return None
    run(kind, folder, source, torch.randn(size))
    peak = _resident("VmHWM")
    return None if peak is None else max(peak - before, 0)


def run(kind: str, folder: str, source: SourceRecord, images: torch.Tensor) -> None:
    """Loads the network and runs it."""
    network: torch.nn.Module | PackedModel
    if kind == "float":
        network = build(source).eval().to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    else:
        network = load(folder)
    with torch.no_grad():
        for _ in range(N_RUNS):
            network(images)


def _resident(field: str) -> int | None:
    """A line of the process's status, kibibytes there, bytes here."""
    if not STATUS.is_file():
        return None
    for line in STATUS.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return 1024 * int(line.split()[1])
    return None


def _reset() -> bool:
    """Lets the highest size start anew from the present one."""
    try:
        RESET.write_text("5")
    except OSError:
        return False
    return True


if __name__ == "__main__":
    n_bytes = measure(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    sys.stdout.write("unknown\n" if n_bytes is None else f"{n_bytes}\n")
