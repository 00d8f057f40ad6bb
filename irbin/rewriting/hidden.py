"""Modules that a rewrite adds at the root have state and devices, but are not among the children.

Much code cuts a network by place: `nn.Sequential(*list(net.children())[:-1])`, `net[-1]`. These
places stay the source's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

_ADDED = "irbin_added"
"""Attribute of a root: the names of its hidden modules."""


def hide(module: nn.Module, names: list[str]) -> None:
    """Makes children of `module`, whose class is made of `hiding`, no longer count as such."""
    vars(module)[_ADDED] = (*vars(module).get(_ADDED, ()), *names)


def hiding(kind: type[nn.Module]) -> type[nn.Module]:
    """The class to put in front of `kind`."""
    return _SequentialWithMore if issubclass(kind, nn.Sequential) else _WithMore


class _WithMore(nn.Module):
    """A network with modules that its source does not have."""

    def _added(self) -> dict[str, nn.Module]:
        added: dict[str, nn.Module] = {}
        for name in getattr(self, _ADDED, ()):  # plain enough for torch.compile
            module = self._modules.get(name)
            if module is not None:
                added[name] = module
        return added

    def named_children(self) -> Iterator[tuple[str, nn.Module]]:
        added = self._added()
        return ((name, child) for name, child in super().named_children() if name not in added)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Any:
        for module in self._added().values() if recurse else ():
            module._apply(fn)  # type: ignore[no-untyped-call]
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def apply(self, fn: Callable[[nn.Module], None]) -> Any:
        for module in self._added().values():
            module.apply(fn)
        return super().apply(fn)

    def train(self, mode: bool = True) -> Any:
        for module in self._added().values():
            module.train(mode)
        return super().train(mode)


class _SequentialWithMore(_WithMore, nn.Sequential):
    """An `nn.Sequential` whose places are the source's."""

    irbin_source: type[nn.Sequential]

    def _layers(self) -> OrderedDict[str, nn.Module]:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        added = self._added()
        for name, module in self._modules.items():
            if name not in added and module is not None:
                layers[name] = module
        return layers

    def __iter__(self) -> Iterator[nn.Module]:
        return iter(self._layers().values())

    def __len__(self) -> int:
        return len(self._layers())

    def __getitem__(self, idx: Any) -> Any:
        layers = self._layers()
        if isinstance(idx, slice):
            return self.irbin_source(OrderedDict(list(layers.items())[idx]))
        return self._get_item_by_idx(layers.values(), idx)

    def __setitem__(self, idx: int, module: nn.Module) -> None:
        setattr(self, self._get_item_by_idx(self._layers().keys(), idx), module)

    def __delitem__(self, idx: Any) -> None:
        with self._without_added():
            super().__delitem__(idx)

    def insert(self, index: int, module: nn.Module) -> Any:
        with self._without_added():
            return super().insert(index, module)

    @contextmanager
    def _without_added(self) -> Iterator[None]:
        added = self._added()
        for name in added:
            del self._modules[name]
        try:
            yield
        finally:
            self._modules.update(added)
