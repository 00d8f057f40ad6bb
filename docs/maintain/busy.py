"""One thread against several while other processes want the processor.

    python -m docs.maintain.busy [SOURCE] [-b 256] [--input-size 3 32 32]
        [--busy 0 4 8] [--blocks 10] [--seconds 1] [-t 2]

A row a number of busy processes, which this program starts and ends: medians of blocks of runs, one
thread's and several threads' blocks in turns, and the worst block.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch

import irbin


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", nargs="?", default="zoo:resnet20-cifar10-1w1a")
    parser.add_argument("-b", "--batch-size", type=int, default=256)
    parser.add_argument("--input-size", type=int, nargs=3, default=[3, 32, 32])
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 4, 8])
    parser.add_argument("--blocks", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a block")
    parser.add_argument("-t", "--threads", type=int, default=2)
    asked = parser.parse_args()
    network = irbin.load(asked.source)
    images = torch.randn(asked.batch_size, *asked.input_size)
    print(f"{asked.source}, batch {asked.batch_size}, medians in ms of {asked.blocks} blocks")
    print("| busy | load | 1 thread | worst | several | worst | of 1 thread's median |")
    print("|---|---|---|---|---|---|---|")
    for n_busy in asked.busy:
        with busy(n_busy):
            one, several = blocks(
                partial(network, images), (1, asked.threads), asked.blocks, asked.seconds
            )
        base, worst = statistics.median(one), max(several)
        print(
            f"| {n_busy} | {os.getloadavg()[0]:.1f} | {base:.1f} | {max(one):.1f} "
            f"| {statistics.median(several):.1f} | {worst:.1f} | {worst / base:.2f} |",
            flush=True,
        )


@contextmanager
def busy(n: int) -> Iterator[None]:
    """Processes that compute all the time, in this session, so that they are its equals."""
    start = multiprocessing.get_context("spawn")
    others = [start.Process(target=_compute, daemon=True) for _ in range(n)]
    for other in others:
        other.start()
    time.sleep(2 if n else 0)
    try:
        yield
    finally:
        for other in others:
            other.kill()


def _compute() -> None:
    while True:
        sum(range(100_000))


def blocks(
    run: Callable[[], object], numbers: tuple[int, ...], n_blocks: int, seconds: float
) -> list[list[float]]:
    """Medians of blocks in milliseconds, for each number of threads."""
    medians: list[list[float]] = [[] for _ in numbers]
    for n_threads in numbers:
        irbin.set_num_threads(n_threads)
        run()
    for _ in range(n_blocks):
        for n_threads, found in zip(numbers, medians, strict=True):
            irbin.set_num_threads(n_threads)
            times: list[float] = []
            end = time.perf_counter() + seconds
            while len(times) < 3 or time.perf_counter() < end:
                begin = time.perf_counter()
                run()
                times.append(time.perf_counter() - begin)
            found.append(1e3 * statistics.median(times))
    return medians


if __name__ == "__main__":
    main()
