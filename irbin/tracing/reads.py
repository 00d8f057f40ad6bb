"""Settings that a forward reads from its modules (`if self.use_se:`), which a graph decides once.

Flags, counts, names and lists are configuration in nearly every network, so no note tells each. But
whoever sets one on a network whose forward was rewritten hears it: for that, what the network's own
code reads while it is traced is written down.
"""

from __future__ import annotations

import functools
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import fx, nn

from irbin.lines import is_own_code

_PLAIN = {bool, int, str, type(None), list, tuple, dict, set, frozenset}


@contextmanager
def reads_of(module: nn.Module) -> Iterator[Counter[str]]:
    """Within, counts what code that is neither torch's nor irbin's reads of `module`'s parts.

    Every module's attributes are looked up through it meanwhile, as fx does with those of theirs
    that are tensors.

    Returns:
        Filled meanwhile: attributes as paths in the network, `training` among them.
    """
    reads: Counter[str] = Counter()
    paths = {id(part): path for path, part in module.named_modules()}
    outer = vars(nn.Module).get("__getattribute__")
    look_up: Any = outer or object.__getattribute__

    def read(part: nn.Module, name: str) -> Any:
        value = look_up(part, name)
        if type(value) not in _PLAIN or id(part) not in paths or not _asked_by_a_network():
            return value
        if not isinstance(getattr(type(part), name, None), property):
            reads[f"{paths[id(part)]}.{name}".removeprefix(".")] += 1
        return value

    setattr(nn.Module, "__getattribute__", read)  # noqa: B010 - mypy: not a method to assign
    try:
        yield reads
    finally:
        if outer is None:
            del nn.Module.__getattribute__
        else:
            setattr(nn.Module, "__getattribute__", outer)  # noqa: B010


def _asked_by_a_network() -> bool:
    return _is_own(sys._getframe(2).f_code.co_filename)


_is_own = functools.lru_cache(maxsize=None)(is_own_code)


def frozen_settings(traced: fx.GraphModule) -> frozenset[str]:
    """Attributes, as paths, that setting later does not change everywhere in what `traced` is.

    Not those that are operands wherever they were read, which a graph reads when it runs
    (`numbers.read_when_run`), nor those of modules that run their own forward, nor modes.
    """
    frozen: set[str] = set()
    for graph in _of_both_modes(traced):
        read_again: Counter[str] = Counter()
        for node in graph.graph.nodes:
            numbers = node.meta.get("numbers", ())
            read_again.update(n.name for n in numbers if n.place is not None)
            frozen |= {n.name for n in numbers if n.place is None}
        frozen |= {n.name for n in graph.meta["deciding"]}
        frozen |= (graph.meta["reads"] - read_again).keys()
    frozen -= {*traced.meta["assigned"]}
    runs_itself = tuple(f"{path}." for path in traced.meta["opaque"])
    return frozenset(n for n in frozen if not n.startswith(runs_itself) and not _is_mode(n))


def parts_with_modes(traced: fx.GraphModule) -> tuple[str, ...]:
    """Modules, as paths, that branch on their own `training`, the network itself left out.

    Not those that only hand it to a function, which a graph does when it runs (`unfrozen`).
    """
    reads: Counter[str] = Counter()
    for graph in _of_both_modes(traced):
        given = Counter(str(n.target) for n in graph.graph.nodes if n.op == "get_attr")
        reads |= graph.meta["reads"] - given
    names = sorted(name for name in reads if _is_mode(name))
    return tuple(name.removesuffix(".training") for name in names if name != "training")


def _of_both_modes(traced: fx.GraphModule) -> list[fx.GraphModule]:
    """`traced`, and the graph of evaluation where that is another."""
    other = traced.meta.get("evaluation")
    return [traced] if other is None else [traced, other]


def _is_mode(name: str) -> bool:
    return name.rpartition(".")[2] == "training"
