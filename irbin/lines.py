"""Which line of a network's own code something comes from: neither torch's nor irbin's."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path


def _home(package: str) -> str:
    spec = importlib.util.find_spec(package)
    return str(Path(spec.origin).parent) if spec is not None and spec.origin else package


_OTHERS = (_home("torch"), str(Path(__file__).parent))
"""Code that is nobody's network."""


def own_line(frames: Iterable[tuple[str, int]]) -> str:
    """The innermost of (file, line) that is a network's own, as `net.py:12`; '' if none is."""
    own = [
        (file, line)
        for file, line in frames
        if not file.startswith((*_OTHERS, "<")) and Path(file).suffix == ".py"
    ]
    return f"{'/'.join(Path(own[-1][0]).parts[-2:])}:{own[-1][1]}" if own else ""


def line_of_error(error: BaseException) -> str:
    """The network's own line that raised an error; '' if it says none."""
    frames = traceback.extract_tb(error.__traceback__)
    return own_line((f.filename, f.lineno or 0) for f in frames)


def line_running() -> str:
    """The network's own line that is being run; '' if none is."""
    frame, places = sys._getframe(1), []
    while frame is not None:
        places.append((frame.f_code.co_filename, frame.f_lineno))
        frame = frame.f_back  # type: ignore[assignment]
    return own_line(reversed(places))
