"""Time and memory, measured so that two of them can be compared.

Runs are interleaved: a few calls of one, a few of the next, round after round, so that whatever
else the machine does falls on all alike. The first call of each turn warms the caches and is not
counted; a pause before it lets the other runtime's threads fall asleep.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from irbin.hardware import n_cores, processor
from irbin.kernels import native
from irbin.records.bench import Latency, Machine
from irbin.records.progress import OnProgress
from irbin.version import __version__

CALLS_A_TURN = 4
"""The first is not counted."""
PAUSE = 0.02
"""Seconds before each turn: threads of the one before may still spin, waiting for work."""


def interleaved(
    calls: Mapping[str, Callable[[], object]], n_runs: int, report: OnProgress | None = None
) -> dict[str, Latency]:
    """How long each call takes, in turns.

    Args:
        calls: by name.
        n_runs: counted runs of each, at least.
        report: told of progress.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    counted = CALLS_A_TURN - 1
    n_rounds = -(-n_runs // counted)
    for done in range(n_rounds):
        for name, call in calls.items():
            time.sleep(PAUSE)
            turn = [_seconds(call) for _ in range(CALLS_A_TURN)]
            seconds[name] += turn[1:]
        if report is not None:
            report(done + 1, n_rounds)
    return {name: latency(taken) for name, taken in seconds.items()}


def latency(seconds: list[float]) -> Latency:
    """Median and tenths of some runs."""
    cuts = statistics.quantiles(seconds, n=10, method="inclusive") if len(seconds) > 1 else None
    low, high = (cuts[0], cuts[-1]) if cuts else (seconds[0], seconds[0])
    return Latency(1e3 * statistics.median(seconds), 1e3 * low, 1e3 * high, len(seconds))


def machine() -> Machine:
    """This one, now."""
    return Machine(
        processor=processor(),
        n_cores=n_cores(),
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan"),
        python=platform.python_version(),
        torch=torch.__version__,
        irbin=__version__,
        kernels=native.active(),
        thread_pool=native.thread_pool(),
    )


def peak_bytes(module: str, arguments: list[str]) -> int | None:
    """Memory that a program adds to a fresh process, as the program itself prints it.

    Args:
        module: run as `python -m MODULE`; its last line of output is a number of bytes.
        arguments: its command line.

    Returns:
        None where the process cannot tell (it ends with another line).
    """
    code = f"import runpy; runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    done = _fresh(code, arguments)
    lines = done.stdout.split()
    return int(lines[-1]) if done.returncode == 0 and lines and lines[-1].isdigit() else None


LOADING = """
import irbin, torch, sys, time
start = time.perf_counter()
irbin.load(sys.argv[1])
print(1e3 * (time.perf_counter() - start))
"""

_SAME_IRBIN = """
import sys
root = sys.argv.pop(1)
if root not in sys.path:
    sys.path.insert(0, root)
"""


def _fresh(code: str, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Runs code in a fresh process that has this irbin, and no module of the working directory."""
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-P", "-W", "ignore", "-c", _SAME_IRBIN + code, root, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def load_ms(folder: str, n_runs: int = 5) -> float | None:
    """Milliseconds to load a packed folder in a fresh process; None if that fails.

    Args:
        folder: a packed folder.
        n_runs: processes; the median is taken.
    """
    milliseconds = []
    for _ in range(n_runs):
        done = _fresh(LOADING, [folder])
        if done.returncode:
            return None
        milliseconds.append(float(done.stdout.split()[-1]))
    return statistics.median(milliseconds)


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
