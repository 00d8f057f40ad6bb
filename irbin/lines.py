"""Which line of a network's own code something comes from: not torch's, irbin's or Python's."""

from __future__ import annotations

import importlib.util
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any


def _home(package: str) -> str:
    spec = importlib.util.find_spec(package)
    return str(Path(spec.origin).parent) if spec is not None and spec.origin else package


_OTHERS = (_home("torch"), str(Path(__file__).parent))
"""Code that is nobody's network."""


def own_line(frames: Iterable[tuple[str, int]]) -> str:
    """The innermost of (file, line) that is a network's own, as `net.py:12`; '' if none is."""
    own = [(file, line) for file, line in frames if is_own_code(file)]
    return f"{'/'.join(Path(own[-1][0]).parts[-2:])}:{own[-1][1]}" if own else ""


_PYTHONS = sysconfig.get_path("stdlib")
_INSTALLED = ("site-packages", "dist-packages")
"""Lies inside of Python's own, and may well be a network's."""


def is_own_code(file: str) -> bool:
    """Whether a file is a network's own code."""
    if file.startswith((*_OTHERS, "<")) or Path(file).suffix != ".py":
        return False
    return not file.startswith(_PYTHONS) or any(name in file for name in _INSTALLED)


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


def where_they_part(one: Callable[[], object], other: Callable[[], object]) -> str:
    """` (net.py:12)`: the last line of a network's own code before two runs of it go other ways.

    '' where they run alike. Errors of the runs are kept in.
    """
    before = ""
    for here, there in zip(_steps_run(one), _steps_run(other), strict=False):
        if here != there:
            break
        before = own_line([here[:2]])
    else:
        return ""
    return f" ({before})" * bool(before)


def _steps_run(call: Callable[[], object]) -> list[tuple[str, int, int]]:
    """Every instruction of own code that a call runs: file, line, place in its function."""
    steps: list[tuple[str, int, int]] = []

    def trace(frame: FrameType, event: str, arg: object) -> Any:  # noqa: ARG001 - a tracer's
        if not is_own_code(frame.f_code.co_filename):
            return None
        frame.f_trace_opcodes = True  # a line may hold a whole branch
        if event == "opcode":
            steps.append((frame.f_code.co_filename, frame.f_lineno, frame.f_lasti))
        return trace

    was = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except Exception:  # the network's own code may raise anything
        return steps
    finally:
        sys.settrace(was)
    return steps
