"""Some mutants of every fuzzer; `python -m tests.fuzz --seconds 3600` tries as many as there is time for."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from irbin.program.vocabulary import OWN_OPERATORS

from . import folders, pool, values

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="mutants are tried in forked children")
def test_no_mutant_ends_a_process_or_gives_another_answer():
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--mutants", "150", "--seconds", "25"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert len(told) == 8
    # all refused means that the fuzzer's own folder is, whatever is mutated
    assert all("equal" in told[name] for name in ("operators", "programs", "manifests"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_death_is_the_mutants_that_died():
    """The pool, on a subject that ends its process at 3, hurts nobody at 5 and raises at 8."""
    code = """
import os
from tests.fuzz.pool import run

def attempt(n):
    if n == 3: os.abort()
    if n == 8: raise ValueError("eight")
    return ("equal" if n % 2 else "refused", "")

found = run(attempt, 0, 60, 12)
print(found.n, sorted(found.counts.items()), [n for n, _ in found.bad])
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    expected = "12 [('bad', 2), ('equal', 5), ('refused', 5)] [3, 8]\n"
    assert done.stdout == expected, done.stderr


def test_the_programs_that_are_mutated_have_every_operator_on_bits():
    assert set(OWN_OPERATORS) <= {node["op"] for node in folders.PROGRAM["nodes"]}


def test_mutants_are_the_same_each_time():
    value = {"a": [1, 2.0, "float32[N,3]"], "b": {"c": None}}
    made = [values.mutated(value, random.Random(7), 3) for _ in range(2)]
    assert made[0] == made[1]
    assert pool.SECONDS_A_MUTANT < 60
