"""`python -m tests.fuzz [NAME …] --seconds 60`: the fuzzers, one after the other, and what they saw.

Needs Linux or another system with fork. A mutant is named by its fuzzer, seed and number:
`--only NUMBER` tries that one alone, in this process.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
import warnings

from . import pool
from .files import checkpoints, recipes
from .folders import folder, manifests, operators, programs, safetensors
from .images import images
from .kernels import kernels

FUZZERS = {
    "programs": programs,
    "operators": operators,
    "manifests": manifests,
    "safetensors": safetensors,
    "checkpoints": checkpoints,
    "recipes": recipes,
    "images": images,
    "kernels": kernels,
}


def fuzz(name: str, seed: int, seconds: float, most: int = 1 << 40, first: int = 0) -> pool.Found:
    """Runs one fuzzer for a while."""
    one = FUZZERS[name]
    return pool.run(lambda number: one(seed, number), first, seconds, most)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(FUZZERS)}")
    parser.add_argument("--seconds", type=float, default=60, help="for each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first mutant")
    parser.add_argument("--mutants", type=int, default=1 << 40, help="for each, at most")
    parser.add_argument("--only", type=int, help="try one mutant, in this process")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if unknown := set(options.names) - FUZZERS.keys():
        parser.error(f"no fuzzer {', '.join(sorted(unknown))}")
    n_bad = 0
    try:
        for name in options.names or FUZZERS:
            if options.only is not None:
                print(name, options.only, *FUZZERS[name](options.seed, options.only))
                continue
            start = time.monotonic()
            found = fuzz(name, options.seed, options.seconds, options.mutants, options.first)
            told = ", ".join(f"{count} {what}" for what, count in sorted(found.counts.items()))
            print(
                f"{name}: {found.n} mutants in {time.monotonic() - start:.0f} s: {told}", flush=True
            )
            for number, words in found.bad[:20]:
                print(f"  {name} --seed {options.seed} --only {number}: {words}", flush=True)
            n_bad += len(found.bad)
    finally:
        shutil.rmtree(folder().path, ignore_errors=True)
    return min(n_bad, 1)


sys.exit(main()) if __name__ == "__main__" else None
