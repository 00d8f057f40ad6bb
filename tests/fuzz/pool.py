"""Mutants in forked children, bounded in memory and time; the death of a child is its mutant's.

A child works through mutants by number until it dies or is done; it writes each number to a pipe
before it begins, so that whoever waits knows which mutant was the last. Forking keeps torch loaded:
a child costs milliseconds, and a mutant no more than its work.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import struct
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

Outcome = tuple[str, str]
"""(`refused`, `equal` or `bad`, words)."""
Try = Callable[[int], Outcome]
"""Tries the mutant of a number."""

SECONDS_A_MUTANT = 30
"""Of the processor's; `_PATIENCE` times as many of the clock's, where the machine is busy."""
_PATIENCE = 10
BYTES_MORE = 3 << 30
"""Address space that a child may take beyond what it has when it is forked."""


@dataclass
class Found:
    """What a fuzzer saw."""

    n: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    bad: list[tuple[int, str]] = field(default_factory=list)


def run(attempt: Try, first: int, seconds: float, most: int, a_child: int = 500) -> Found:
    """Tries mutants `first`, `first + 1` … until the time is over or `most` are tried."""
    found, end, at = Found(), time.monotonic() + seconds, first
    while time.monotonic() < end and at < first + most:
        at = _child(attempt, at, min(first + most, at + a_child), end, found)
    return found


def _child(attempt: Try, first: int, last: int, end: float, found: Found) -> int:
    """One child's work; gives the number of the next mutant."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _work(attempt, first, last, end, writer)
    os.close(writer)
    at, rest, begun, patience, used = first - 1, b"", False, _PATIENCE, 0.0
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        while True:
            ready, _, _ = select.select([pipe], [], [], SECONDS_A_MUTANT)
            data = pipe.read(1 << 16) if ready else None
            if (
                data is None
                and patience > 1
                and _processor_seconds(child) - used < SECONDS_A_MUTANT
            ):
                patience -= 1
                continue
            if not data:
                hung = data is None
                break
            rest += data
            while len(rest) >= 5 and len(rest) >= 5 + (size := struct.unpack("<I", rest[1:5])[0]):
                kind, body, rest = rest[:1], rest[5 : 5 + size], rest[5 + size :]
                if kind == b"b":
                    at, begun, patience = int(body), True, _PATIENCE
                    used = _processor_seconds(child)
                else:
                    outcome, words = json.loads(body)
                    begun = False
                    found.n += 1
                    found.counts[outcome] += 1
                    if outcome == "bad":
                        found.bad.append((at, words))
    if hung:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if hung or (begun and status):
        found.n += 1
        found.counts["bad"] += 1
        words = f"no answer in {SECONDS_A_MUTANT} s" if hung else f"the process ended with {status}"
        found.bad.append((at, words))
    return max(at, first - 1 if status else at) + 1


def _processor_seconds(process: int) -> float:
    """What a process has used of the processor; infinite where the system does not tell."""
    try:
        fields = open(f"/proc/{process}/stat").read().rpartition(")")[2].split()
    except OSError:
        return float("inf")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _work(attempt: Try, first: int, last: int, end: float, writer: int) -> None:
    """Never returns."""
    code = 0
    try:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        if not os.environ.get("IRBIN_FUZZ_LOUD"):
            os.dup2(quiet, 2)
        now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        if not os.environ.get("IRBIN_FUZZ_UNBOUNDED"):  # sanitizers need terabytes of addresses
            resource.setrlimit(resource.RLIMIT_AS, (now + BYTES_MORE, now + BYTES_MORE))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for number in range(first, last):
            if time.monotonic() > end:
                break
            _tell(writer, b"b", str(number).encode())
            try:
                outcome = attempt(number)
            except BaseException as error:
                outcome = ("bad", f"{type(error).__name__}: {str(error)[:300]}")
            _tell(writer, b"r", json.dumps(outcome).encode())
    except BaseException:
        code = 1
    finally:
        with contextlib.suppress(OSError):
            os.close(writer)
        os._exit(code)


def _tell(writer: int, kind: bytes, body: bytes) -> None:
    os.write(writer, kind + struct.pack("<I", len(body)) + body)
