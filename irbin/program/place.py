"""Where something comes from, in the words of the source: the module, and the line of its code."""

from __future__ import annotations

import re

from torch import fx

from irbin.lines import line_of_error, own_line

_FRAME = re.compile(r'File "([^"]+)", line (\d+)')


def module_path(node: fx.Node) -> str:
    """The innermost module that called a node of an exported graph; '' for the network itself."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [entry[0] for entry in stack.values() if entry[0]]
    return str(paths[-1]) if paths else ""


def place(node: fx.Node) -> str:
    """` in `layer1.0` (net.py:12)`, as far as the graph says it."""
    return _words(module_path(node), _line(node))


def line_in(graph: fx.Graph) -> str:
    """` (net.py:12)`: the first line of the source in a graph that knows one."""
    return _words("", next(filter(None, map(_line, graph.nodes)), ""))


def _line(node: fx.Node) -> str:
    return own_line(_written(node.meta.get("stack_trace") or ""))


def place_of_error(error: BaseException) -> str:
    """` (net.py:12)`: the network's own line that raised an error, as far as that says it."""
    return _words("", line_of_error(error) or own_line(_written(str(error))))


def _written(text: str) -> list[tuple[str, int]]:
    """The frames of a traceback that was made text."""
    return [(file, int(line)) for file, line in _FRAME.findall(text)]


def _words(path: str, line: str) -> str:
    return f" in `{path}`" * bool(path) + f" ({line})" * bool(line)
