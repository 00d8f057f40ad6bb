"""Which line of a network's own code something comes from: neither torch's nor irbin's."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import FrameType


def _home(package: str) -> str:
    spec = importlib.util.find_spec(package)
    return str(Path(spec.origin).parent) if spec is not None and spec.origin else package


_OTHERS = (_home("torch"), str(Path(__file__).parent))
"""Code that is nobody's network."""


def own_line(frames: Iterable[tuple[str, int]]) -> str:
    """The innermost of (file, line) that is a network's own, as `net.py:12`; '' if none is."""
    own = [(file, line) for file, line in frames if is_own_code(file)]
    return f"{'/'.join(Path(own[-1][0]).parts[-2:])}:{own[-1][1]}" if own else ""


def is_own_code(file: str) -> bool:
    """Whether a file is a network's own code."""
    return not file.startswith((*_OTHERS, "<")) and Path(file).suffix == ".py"


def line_of_error(error: BaseException) -> str:
    """The network's own line that raised an error; '' if it says none."""
    frames = traceback.extract_tb(error.__traceback__)
    return own_line((f.filename, f.lineno or 0) for f in frames)


def frame_running() -> FrameType | None:
    """The innermost frame of a network's own code that is being run."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not is_own_code(frame.f_code.co_filename):
        frame = frame.f_back
    return frame


def line_running() -> str:
    """The network's own line that is being run; '' if none is."""
    frame = frame_running()
    return "" if frame is None else own_line([(frame.f_code.co_filename, frame.f_lineno)])
