"""Where something comes from, in the words of the source: the module, and the line of its code."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

import torch
from torch import fx

_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_OTHERS = (str(Path(torch.__file__).parent), str(Path(__file__).parent.parent))
"""Code that is nobody's network: torch's and irbin's own."""


def module_path(node: fx.Node) -> str:
    """The innermost module that called a node of an exported graph; '' for the network itself."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [entry[0] for entry in stack.values() if entry[0]]
    return str(paths[-1]) if paths else ""


def place(node: fx.Node) -> str:
    """` in `layer1.0` (net.py:12)`, as far as the graph says it."""
    frames = _FRAME.findall(node.meta.get("stack_trace") or "")
    return _words(module_path(node), _line([(file, int(line)) for file, line in frames]))


def place_of_error(error: BaseException) -> str:
    """` (net.py:12)`: the network's own line that raised an error, as far as that says it."""
    frames = [(f.filename, f.lineno or 0) for f in traceback.extract_tb(error.__traceback__)]
    line = _line(frames) or _line([(file, int(line)) for file, line in _FRAME.findall(str(error))])
    return _words("", line)


def _line(frames: list[tuple[str, int]]) -> str:
    """The innermost line outside of torch and irbin."""
    own = [
        (file, line)
        for file, line in frames
        if not file.startswith((*_OTHERS, "<")) and Path(file).suffix == ".py"
    ]
    return f"{'/'.join(Path(own[-1][0]).parts[-2:])}:{own[-1][1]}" if own else ""


def _words(path: str, line: str) -> str:
    return f" in `{path}`" * bool(path) + f" ({line})" * bool(line)
