"""A network's edited forward: a subclass of its class that copies, pickles and is saved whole.

So is that of an `nn.Sequential`, whose forward stays, but which runs all that it holds in turn.
"""

from __future__ import annotations

import copyreg
import importlib
from types import ModuleType
from typing import Any

from torch import fx, nn
from torch.fx.graph_module import _forward_from_src

from irbin.network.hidden import hiding


class EditedForward:
    """Code of an edited forward, and what it names; pickles where the names' values do.

    Args:
        traced: a recompiled graph module.
    """

    def __init__(self, traced: fx.GraphModule) -> None:
        code = traced.graph.python_code(root_module="self")
        self.source = code.src
        self.names: dict[str, Any] = dict(code.globals)

    def __getstate__(self) -> dict[str, Any]:
        """Python modules go by name, everything else as itself."""
        modules = {n: v.__name__ for n, v in self.names.items() if isinstance(v, ModuleType)}
        others = {n: v for n, v in self.names.items() if n not in modules}
        return {"source": self.source, "modules": modules, "others": others}

    def __setstate__(self, state: dict[str, Any]) -> None:
        modules = {n: importlib.import_module(path) for n, path in state["modules"].items()}
        self.source, self.names = state["source"], {**modules, **state["others"]}


def edited_class(kind: type[nn.Module], edited: EditedForward | None) -> type[nn.Module]:
    """A subclass of a network's class that can hide modules, and whose forward is the edited one.

    Args:
        kind: the source's class.
        edited: None leaves the forward.
    """

    def reduce(self: nn.Module, protocol: Any) -> Any:
        made = object.__reduce_ex__(self, protocol)
        if not isinstance(made, tuple) or made[0] is not copyreg.__newobj__:  # type: ignore[attr-defined]
            return made  # the network's own way
        return (_new, (kind, edited), *made[2:])

    def deep_copy(self: nn.Module, memo: dict[int, Any]) -> nn.Module:
        import copy

        new = type(self).__new__(type(self))
        memo[id(self)] = new
        new.__setstate__(copy.deepcopy(self.__getstate__(), memo))  # type: ignore[no-untyped-call]
        return new

    body: dict[str, Any] = {
        "irbin_source": kind,
        "__doc__": kind.__doc__,
        "__module__": kind.__module__,
        "__reduce_ex__": reduce,
    }
    if edited is not None:
        body["forward"] = _forward_from_src(edited.source, dict(edited.names))
    if not hasattr(kind, "__deepcopy__"):  # copies share the class, as copies of the source do
        body["__deepcopy__"] = deep_copy
    return type(kind.__name__, (hiding(kind), kind), body)


def _new(kind: type[nn.Module], edited: EditedForward | None) -> nn.Module:
    made = edited_class(kind, edited)
    return made.__new__(made)
