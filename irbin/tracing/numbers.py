"""Numbers that a forward reads from its modules (`x * self.tau`), in a graph that tracing froze.

While a network is traced, its floats carry the name of their attribute, through products and sums
with other numbers too. An operand that is such a float itself can be read when the graph runs
(`read_when_run`); what was computed from one cannot, and is told. Integers mostly say sizes: they
count as operands of arithmetic on tensors alone, found in the line that runs.
"""

from __future__ import annotations

import linecache
import re
from collections.abc import Callable
from itertools import islice
from types import FrameType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from torch import fx, nn

from irbin.lines import frame_running, line_running

_ARITHMETIC = {
    f"{prefix}{name}"
    for name in ("add", "sub", "mul", "truediv", "div", "pow", "multiply", "subtract", "divide")
    for prefix in ("", "i")
}


class Number(NamedTuple):
    """An attribute of a module that a node's operand comes from."""

    name: str
    """Path in the network."""
    line: str
    """Of the network's code, as `net.py:12`; '' where it is not known."""
    place: int | str | None
    """The operand, by position or keyword; None where it was computed from the attribute."""
    value: float
    """What it was when traced."""


class _Read(float):
    """A float that knows which attribute it comes from, and whether it is that one itself."""

    name: str
    itself: bool
    deciding: dict[str, Number]
    """Shared by a network's floats: those that were compared, by name."""

    @classmethod
    def of(cls, value: float, name: str, deciding: dict[str, Number], *, itself: bool) -> _Read:
        made = cls(value)
        made.name, made.deciding, made.itself = name, deciding, itself
        return made


def _carrying(function: Callable[..., Any]) -> Callable[..., Any]:
    def compute(self: _Read, *others: Any) -> Any:
        made = function(self, *others)
        if type(made) is not float:
            return made
        return _Read.of(made, self.name, self.deciding, itself=False)

    return compute


def _is_of_training() -> bool:
    """Whether what runs decides on a dropout: `if self.rate > 0: y = F.dropout(…, self.training)`.

    Its rate is a number that hardly anybody changes, and that does nothing in evaluation.
    """
    frame = frame_running()
    if frame is None:
        return False
    file, line = frame.f_code.co_filename, frame.f_lineno
    return any("training" in linecache.getline(file, n) for n in (line, line + 1))


def _deciding(function: Callable[..., Any]) -> Callable[..., Any]:
    """A comparison, which a branch of the forward is likely to depend on."""

    def compare(self: _Read, *others: Any) -> Any:
        made, line = function(self, *others), line_running()
        if type(made) is bool and line and not _is_of_training():
            self.deciding.setdefault(self.name, Number(self.name, line, None, float(self)))
        return made

    return compare


for _name in (
    *("__neg__", "__abs__", "__add__", "__radd__", "__sub__", "__rsub__", "__mul__", "__rmul__"),
    *("__truediv__", "__rtruediv__", "__pow__", "__rpow__"),
):
    setattr(_Read, _name, _carrying(getattr(float, _name)))
for _name in ("__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__ne__", "__bool__"):
    setattr(_Read, _name, _deciding(getattr(float, _name)))
setattr(_Read, "__hash__", float.__hash__)  # noqa: B010 - which equality takes away


def name_floats(module: nn.Module) -> dict[str, Number]:
    """Lets every float of `module` and its parts carry its name, in place: see `untouched`.

    Those in lists, tuples and dictionaries too.

    Returns:
        Filled while the network is traced: the floats that were compared, by name.
    """
    deciding: dict[str, Number] = {}
    for path, part in module.named_modules():
        for name, value in _own_attributes(part).items():
            named = _named(value, f"{path}.{name}".removeprefix("."), deciding)
            if named is not value:
                vars(part)[name] = named
    return deciding


def _own_attributes(module: nn.Module) -> dict[str, Any]:
    """Of a network's own classes and their instance, which goes first; none of torch's."""
    attributes: dict[str, Any] = {}
    for kind in type(module).__mro__:
        if kind.__module__.startswith("torch.nn."):
            break
        own = vars(module) if kind is type(module) else {}
        for name, value in {**vars(kind), **own}.items():
            held = vars(module).get(name, value)
            if type(held) is type(value):
                attributes.setdefault(name, held)
    return attributes


def _named(value: Any, name: str, deciding: dict[str, Number], *, itself: bool = True) -> Any:
    """A float that carries its name, or a copy of a container of such; else the value itself."""
    if type(value) is float:
        return _Read.of(value, name, deciding, itself=itself)
    if type(value) is dict:
        items = {
            key: _named(held, f"{name}[{key!r}]", deciding, itself=False)
            for key, held in value.items()
        }
        return items if any(items[key] is not held for key, held in value.items()) else value
    if type(value) not in (list, tuple):
        return _named_record(value, name, deciding)
    made = [_named(held, f"{name}[{i}]", deciding, itself=False) for i, held in enumerate(value)]
    return type(value)(made) if any(m is not v for m, v in zip(made, value, strict=True)) else value


def _named_record(value: Any, name: str, deciding: dict[str, Number]) -> Any:
    """A copy of an object that only holds settings (`self.config.scale`), whose floats are named.

    The object itself where it has no float, or where a copy may do more than hold.
    """
    kind: Any = type(value)
    made_by = kind.__new__ in (object.__new__, SimpleNamespace.__new__)
    if not hasattr(value, "__dict__") or not made_by or hasattr(kind, "__del__"):
        return value
    if isinstance(value, nn.Module) or kind.__module__.partition(".")[0] in ("torch", "builtins"):
        return value
    held: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        held |= {key: v for key, v in vars(base).items() if type(v) is float}
    held |= vars(value)
    named = {
        key: _named(v, f"{name}.{key}", deciding, itself=False)
        for key, v in held.items()
        if type(v) is float
    }
    if not named:
        return value
    made = kind.__new__(kind)
    vars(made).update(vars(value) | named)
    return made


def note_numbers(node: fx.Node, root: nn.Module) -> None:
    """Writes into `meta["numbers"]` what `node`, just made, was given; the numbers become plain."""
    numbers: list[Number] = []
    line = ""

    def seen(value: Any, place: int | str | None) -> Any:
        nonlocal line
        if isinstance(value, _Read):
            line = line or line_running()
            numbers.append(Number(value.name, line, place if value.itself else None, float(value)))
            return float(value)
        return value

    def plain(value: Any, place: int | str) -> Any:
        if isinstance(value, _Read):
            return seen(value, place)
        return fx.node.map_aggregate(value, lambda v: seen(v, None))

    args = tuple(plain(value, i) for i, value in enumerate(node.args))
    kwargs = {name: plain(value, name) for name, value in node.kwargs.items()}
    if numbers:
        node.args, node.kwargs = args, kwargs
    name = getattr(node.target, "__name__", str(node.target)).strip("_")
    if node.op in ("call_function", "call_method") and name in _ARITHMETIC:
        known = {number.place for number in numbers}
        whole = [
            (i, v)
            for i, v in enumerate(node.args)
            if isinstance(v, int | float) and type(v) is not bool and i not in known
        ]
        for place, value in whole if len(node.args) == 2 else []:
            attribute = _read_in_line(value, root)
            if attribute:
                numbers.append(Number(attribute, line_running(), place, value))
    if numbers:
        node.meta["numbers"] = tuple(numbers)


def _read_in_line(value: float, root: nn.Module) -> str:
    """The integer, or number of NumPy's, that the network's line that runs reads; '' if none."""
    frame = frame_running()
    if frame is None or not frame.f_code.co_varnames:
        return ""
    own = frame.f_code.co_varnames[0]
    part = frame.f_locals.get(own)
    path = next((p for p, m in root.named_modules() if m is part), None)
    for name in re.findall(rf"\b{own}\.([A-Za-z_]\w*)\b(?!\s*[.(\[])", _expression(frame)):
        held = None if path is None else getattr(part, name, None)
        if isinstance(held, np.number):
            held = held.item()
        elif type(held) is not int:
            continue
        if type(held) is type(value) and held == value:
            return f"{path}.{name}".removeprefix(".")
    return ""


def _expression(frame: FrameType) -> str:
    """The expression that runs, in its line; all of the line where that is not known."""
    code = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
    positions = next(islice(frame.f_code.co_positions(), frame.f_lasti // 2, None), None)
    if positions is None:
        return code
    first, last, start, end = positions
    of_one_line = first == last == frame.f_lineno
    return code.encode()[start:end].decode() if of_one_line and start is not None else code


def read_when_run(graph: fx.Graph) -> list[Number]:
    """Lets operands be read from their modules again, in place, as the last edit of a graph.

    Returns:
        Those that stay as they are.
    """
    stay: list[Number] = []
    for node in list(graph.nodes):
        for number in node.meta.get("numbers", ()):
            place = number.place
            if place is None:
                stay.append(number)
                continue
            given = dict(enumerate(node.args)) | node.kwargs
            if type(given.get(place)) in (int, float) and given[place] == number.value:
                with graph.inserting_before(node):
                    read = graph.create_node("get_attr", number.name)
                if isinstance(place, int):
                    node.update_arg(place, read)
                else:
                    node.update_kwarg(place, read)
    return stay
