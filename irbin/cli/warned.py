"""Python's warnings while a command runs: a note for what the network's own code says, else none.

Libraries warn whoever wrote the line that called them: of arguments to come, of a device that is
not there. Who types a command can do nothing about it, and a page of it hides the note that counts.
What a network's author wrote with `warnings.warn` is for who uses it.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from irbin.cli.console import is_first_process, notes, say

_FROM_TORCH = "(Triggered internally at"
"""End of what torch's C++ warns of, on behalf of the line of Python that runs."""
_FILTERS = "PYTHONWARNINGS"
_PYTHON, _IRBIN = sysconfig.get_path("stdlib"), str(Path(__file__).parents[1])


@contextmanager
def own_warnings_as_notes() -> Iterator[None]:
    """Within, warnings are notes, a line each and once, or nothing; those of children are nothing.

    Who set `PYTHONWARNINGS` or `python -W` sees what Python shows.
    """
    if sys.warnoptions:
        yield
        return
    told: set[str] = set()

    def show(message: Warning | str, *_where: object) -> None:
        text, by = " ".join(str(message).split()), _speaker(sys._getframe(1))
        said = f"{by} warns: {text}"
        if by and _FROM_TORCH not in text and said not in told and is_first_process():
            told.add(said)
            say(notes(), f"note: {said}", style="yellow")

    with warnings.catch_warnings(), _unheard_from_children():
        warnings.showwarning = show  # type: ignore[assignment]  # takes where it is, unnamed
        yield


@contextmanager
def _unheard_from_children() -> Iterator[None]:
    """Within, interpreters that are started show no warnings: they know nothing of `show`.

    They read images (spawned loader workers), compile kernels and measure; a worker that is forked
    has `show` as it is.
    """
    before = os.environ.get(_FILTERS)
    os.environ[_FILTERS] = "ignore"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_FILTERS]
        else:
            os.environ[_FILTERS] = before


def _speaker(frame: FrameType | None) -> str:
    """The line that called `warnings.warn`, as `net.py:12`; '' where it is an installed library's.

    Not the line that the warning names: libraries put theirs on whoever called them.
    """
    while frame is not None and frame.f_code.co_filename == warnings.__file__:
        frame = frame.f_back
    if frame is None:
        return ""
    path = Path(frame.f_code.co_filename)
    installed = path.is_relative_to(_PYTHON) or path.is_relative_to(_IRBIN)
    if installed or {"site-packages", "dist-packages"} & set(path.parts) or path.suffix != ".py":
        return ""
    return f"{'/'.join(path.parts[-2:])}:{frame.f_lineno}"
