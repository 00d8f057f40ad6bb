"""How much is said beside results and errors: `-q`, `-v` and `IRBIN_LOG_LEVEL`.

The flags work in any position of a command line, so `main` takes them out before Typer reads it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

from irbin.cli.console import logged_as_notes, shared, silent
from irbin.errors import UsageError

VARIABLE = "IRBIN_LOG_LEVEL"
QUIET, VERBOSE = ("-q", "--quiet"), ("-v", "--verbose")
LEVELS = {
    "error": logging.ERROR,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
}
"""What the variable may say, from the quietest."""


def loudness(words: Sequence[str]) -> tuple[list[str], int]:
    """A command line without the flags of this page, and the level of logging that they ask for.

    What follows `--` is no flag.

    Raises:
        UsageError: the variable names no level, or both flags are given.
    """
    end = list(words).index("--") if "--" in words else len(words)
    flags, rest = list(words[:end]), list(words[end:])
    quiet, loud = (any(flag in flags for flag in group) for group in (QUIET, VERBOSE))
    if quiet and loud:
        raise UsageError(f"`{QUIET[0]}` and `{VERBOSE[0]}` ask for opposites; give one")
    named = os.environ.get(VARIABLE, "").strip().lower() or "info"
    if named not in LEVELS:
        known = ", ".join(LEVELS)
        raise UsageError(f"`{VARIABLE}`: expected one of {known}, got `{named}`")
    level = logging.ERROR if quiet else logging.DEBUG if loud else LEVELS[named]
    return [word for word in flags if word not in (*QUIET, *VERBOSE)] + rest, level


@contextmanager
def speaking(level: int) -> Iterator[None]:
    """Within, notes from `level` on are shown, and progress unless only errors are.

    From `debug` on libraries' messages are notes too, as far down as `info`.
    """
    root, own = logging.getLogger(), logging.getLogger("irbin")
    before = root.level, own.level
    if level <= logging.DEBUG:
        root.setLevel(logging.INFO)
        own.setLevel(logging.DEBUG)
    try:
        with logged_as_notes(level), shared(silent()) if level >= logging.ERROR else nullcontext():
            yield
    finally:
        root.setLevel(before[0])
        own.setLevel(before[1])
