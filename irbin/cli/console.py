"""Where text goes: results to standard output, progress and errors to standard error.

With `--json -` standard output holds the JSON and nothing else, and results move to standard error.
"""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any, TextIO, cast

from rich.console import Console
from rich.text import Text

from irbin.cli.screen import Screen
from irbin.cli.spelling import as_typed
from irbin.errors import LostProcessError, UsageError
from irbin.files import check_place, write_file
from irbin.launch import launched
from irbin.records.json import JsonValue
from irbin.report.jsonout import dumps

STDOUT = "-"


class Stopped(Exception):  # noqa: N818 - no error: what was asked for, and told
    """Work was stopped by Ctrl-C and the user told what is left of it; the exit code says so."""


UNBOUND_WIDTH = 200
"""Columns where no terminal sets them: wide enough that a table's rows stay whole for grep."""


def results(json_to: str | None = None) -> Console:
    """The console for tables and closing lines."""
    return _console(stderr=json_to == STDOUT)


_shared: Console | None = None
"""Where something moves, if anything does; see `shared`."""


def notes() -> Console:
    """The console for progress and errors: while something moves there, the one it moves on."""
    return _console(stderr=True) if _shared is None else _shared


def lasting_notes() -> Console:
    """As `notes`, on the standard error of now, wherever a library turns that meanwhile."""
    return _console(stderr=True, lasting=True) if _shared is None else _shared


@contextmanager
def shared(console: Console) -> Iterator[None]:
    """Within, notes go to `console`, which knows how to print above what moves on it."""
    global _shared
    before, _shared = _shared, console
    try:
        yield
    finally:
        _shared = before


def speak_in_any_encoding() -> None:
    """A stream that cannot hold a character shows `?` instead of ending the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")


STANDARD_OUTPUT = "standard output"
"""Its name in errors."""


class _Named:
    """A stream whose errors say its name, which the system does not know."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream, self._name = stream, name

    def write(self, text: str) -> int:
        with self._telling():
            return self._stream.write(text)

    def writelines(self, lines: Iterable[str]) -> None:
        with self._telling():
            self._stream.writelines(lines)

    def flush(self) -> None:
        with self._telling():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            error.filename = error.filename or self._name
            raise


class _Nowhere(io.TextIOWrapper):
    """What stands for a standard output that was closed (`>&-`).

    It takes the descriptor too, where no file that is opened later can get what libraries print.
    """

    def __init__(self) -> None:
        super().__init__(open(os.devnull, "wb"), encoding="utf-8")  # noqa: SIM115 - closed with it


@contextmanager
def named_output() -> Iterator[None]:
    """Within, an error of standard output says so; at the end nothing that it refused is left."""
    stream = sys.stdout
    if stream is None:
        with _Nowhere() as sys.stdout:
            try:
                yield
            finally:
                sys.stdout = stream
        return
    sys.stdout = cast("TextIO", _Named(stream, STANDARD_OUTPUT))
    try:
        yield
    finally:
        sys.stdout = stream
        try:
            stream.flush()
        except OSError:  # Python would try again when it ends, and complain in words of its own
            _send_nowhere(stream)


def _send_nowhere(stream: TextIO) -> None:
    with suppress(OSError, ValueError):  # a stream in memory has no descriptor
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def finish_output() -> None:
    """Writes out what standard output still holds.

    Raises:
        OSError: it takes no more.
    """
    if sys.stdout is not None:
        sys.stdout.flush()


def is_first_process() -> bool:
    """Whether this process of several is the one that shows and writes; alone, it is."""
    return launched().rank == 0


@contextmanager
def telling(error: Exception) -> Iterator[bool]:
    """Within, whether this process of several is the one to print an error that it met.

    Of those that `torchrun` started, the first to come here. Where nobody counts, by `srun`: the
    first process; another one waits for a moment, in which `srun --kill-on-bad-exit` ends it where
    the first met the same error. Of a process that is gone the first one tells, or if it is that
    one, the second.
    """
    if launched().rank == 0 and launched().size == 1:
        yield True
        return
    from irbin.processes import told_once  # torch takes its time

    with told_once() as is_first:
        if is_first is not None:
            yield is_first
        elif is_first_process():
            yield True
        elif isinstance(error, LostProcessError):
            yield launched().rank == 1
        else:
            time.sleep(GRACE_SECONDS)
            yield True


GRACE_SECONDS = 2.0
"""Of a process that is not the first, before it prints an error that the first may have met too."""


def silent() -> Console:
    """A console that shows nothing, for the processes that only compute."""
    return Console(quiet=True)


def _console(stderr: bool, lasting: bool = False) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    bound = (stream is not None and stream.isatty()) or "COLUMNS" in os.environ
    return Screen(
        file=stream if lasting else None,
        stderr=stderr,
        width=None if bound else UNBOUND_WIDTH,
        highlight=False,
    )


def say(console: Console, line: str, style: str = "") -> None:
    """One line, options as they are typed: no markup, not wrapped, so that it can be copied."""
    console.print(Text(as_typed(line), style=style), soft_wrap=True)


@contextmanager
def first_speaks() -> Iterator[None]:
    """Within, notes of a process that is not the first go nowhere."""
    with shared(notes() if is_first_process() else silent()):
        yield


class _Notes(logging.Handler):
    """Once each but for debugging: `compress` and `eval` open the same images several times."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.told: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text not in self.told or record.levelno <= logging.DEBUG:
            self.told.add(text)
            say(notes(), f"note: {text}", style="yellow")


class _LibrarysNotes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        text = " ".join(record.getMessage().split())
        say(notes(), f"note: {record.name.partition('.')[0]}: {text}", style="yellow")


@contextmanager
def logged_as_notes(level: int = logging.INFO) -> Iterator[None]:
    """Shows what is logged, a line each on standard error, whatever is being displayed there.

    What irbin says from `level` on, and what a library says, unless it shows that itself: from
    warnings on, or from what it calls information where `level` is below that.
    """
    handler, log, before = _Notes(level), logging.getLogger("irbin"), logging.lastResort
    log.addHandler(handler)
    least = logging.INFO if level < logging.INFO else max(level, logging.WARNING)
    logging.lastResort = _LibrarysNotes(least)
    try:
        yield
    finally:
        log.removeHandler(handler)
        logging.lastResort = before


@contextmanager
def json_alone(json_to: str | None) -> Iterator[None]:
    """Keeps what libraries print off standard output where the JSON goes there."""
    if json_to != STDOUT:
        yield
        return
    with redirect_stdout(sys.stderr):
        yield


_OURS = ("config.json", "program.json", "training.json", "run.json", ".index.json")
"""Ends of names of files without which a folder is lost."""


def check_json_target(json_to: str | None, *sources: str | None) -> None:
    """As `check_target` for `--json`."""
    check_target("--json", json_to, *sources)


def check_target(flag: str, target: str | None, *sources: str | None) -> None:
    """Refuses a path that cannot be written, before any long work.

    Args:
        flag: that names it.
        target: as typed; None writes nothing, `-` standard output.
        sources: what the command reads.

    Raises:
        UsageError: its folder does not exist or takes no files, it is a folder, or it is what the
            command reads; or standard output, which is closed.
    """
    if target == STDOUT and (sys.stdout is None or isinstance(sys.stdout, _Nowhere)):
        raise UsageError(f"`{flag} -`: standard output is closed; name a file")
    if target is None or target == STDOUT:
        return
    path = Path(target)
    same = (Path(name).expanduser() for name in sources if name)
    if path.exists() and (path.name.endswith(_OURS) or any(_is_same(path, p) for p in same)):
        raise UsageError(
            f"`{flag}`: {target} is read by this command, or belongs to a network; choose another "
            "file"
        )
    if path.is_dir():
        raise UsageError(f"`{flag}`: expected a file or `-`, got the folder {target}")
    if path.exists() and not path.is_file():  # a device or a pipe, which is written as it is
        return
    check_place(path)
    if not path.absolute().parent.is_dir():
        raise UsageError(f"`{flag}`: the folder of {target} does not exist; make it first")


def _is_same(path: Path, other: Path) -> bool:
    return other.is_file() and path.samefile(other)


def write_json(value: JsonValue, json_to: str | None) -> None:
    """Writes a value where `--json` says, whole or not at all; nowhere if it was not given.

    Of several processes the first one writes: the others would replace its file half-way.
    """
    if json_to is None or not is_first_process():
        return
    text = dumps(value)
    if json_to == STDOUT:
        try:
            text.encode(sys.stdout.encoding or "utf-8")
        except UnicodeEncodeError:  # JSON can say every character in ASCII
            text = json.dumps(json.loads(text), indent=2) + "\n"
        sys.stdout.write(text)
        return
    path = Path(json_to)
    if path.exists() and not path.is_file():  # a file in its place would end a device or a pipe
        path.write_text(text, encoding="utf-8")
        return
    write_file(path, text.encode())
