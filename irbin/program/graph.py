"""A program's items while they are fused, and who reads what."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from irbin.program.fused import Fused, Item
from irbin.program.types import ValueType


class Graph:
    """The items so far, and who reads what."""

    def __init__(
        self,
        items: Sequence[Item],
        types: dict[str, ValueType],
        constants: Collection[str],
        outputs: tuple[str, ...],
    ) -> None:
        self.items = list(items)
        self.types, self.constants, self.outputs = types, constants, outputs
        self._readers: dict[str, list[Item]] = {}
        for item in items:
            self._read(item)

    def readers(self, name: str) -> list[Item]:
        """Items that read a name, each once, in no order."""
        return self._readers.get(name, [])

    def only_reader(self, name: str) -> Item | None:
        """The item that alone reads a name once, if the program does not return it."""
        readers = self.readers(name)
        if name in self.outputs or len(readers) != 1 or readers[0].refs().count(name) != 1:
            return None
        return readers[0]

    def put(self, item: Item, in_place_of: Item, without: Item | None = None) -> None:
        """Sets an item where another stood, and takes a third one out."""
        self.items[_index(self.items, in_place_of)] = item
        self._forget(in_place_of)
        if without is not None:
            del self.items[_index(self.items, without)]
            self._forget(without)
        self._read(item)

    def _read(self, item: Item) -> None:
        for name in set(item.refs()):
            self._readers.setdefault(name, []).append(item)

    def _forget(self, item: Item) -> None:
        for name in set(item.refs()):
            self._readers[name] = [one for one in self._readers[name] if one is not item]

    def maker(self, floats: str) -> Fused | None:
        """The record that gives a float value."""
        made = (m for m in self.items if isinstance(m, Fused) and m.floats == floats)
        return next(made, None)


def _index(items: Sequence[Item], wanted: Item) -> int:
    return next(i for i, item in enumerate(items) if item is wanted)
