"""A program's items while they are fused, and who reads what."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from irbin.program.fused import Fused, Item, results
from irbin.program.types import Node, TensorType, ValueType

TURNS = ("aten.permute.default", "aten.transpose.int")
"""Operators that look at the same memory with other axes."""


LOOKS = (
    *TURNS,
    "aten.reshape.default",
    "aten.unsqueeze.default",
    "aten.squeeze.dim",
    "aten.squeeze.dims",
    "aten.slice.Tensor",
    "aten.select.int",
    "aten.expand.default",
)
"""Operators that may do no more than look at memory in another way."""


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
        self._givers: dict[str, Item] = {}
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

    def drop(self, item: Item) -> None:
        """Takes out an item whose results nobody reads, and looks that only it read."""
        del self.items[_index(self.items, item)]
        self._forget(item)
        for name in dict.fromkeys(item.refs()):
            node = self.node(name)
            is_read = bool(self.readers(name)) or name in self.outputs
            if node is not None and node.op in LOOKS and not is_read:
                self.drop(node)

    def _read(self, item: Item) -> None:
        self._givers |= dict.fromkeys(results(item), item)
        for name in set(item.refs()):
            self._readers.setdefault(name, []).append(item)

    def _forget(self, item: Item) -> None:
        for name in results(item):
            del self._givers[name]
        for name in set(item.refs()):
            self._readers[name] = [one for one in self._readers[name] if one is not item]

    def maker(self, floats: str) -> Fused | None:
        """The record that gives a float value."""
        item = self._givers.get(floats)
        return item if isinstance(item, Fused) and item.floats == floats else None

    def node(self, name: str) -> Node | None:
        """The node of that name, unless a record stands for it."""
        item = self._givers.get(name)
        return item if isinstance(item, Node) else None

    def holds(self, item: Item) -> bool:
        """Whether an item is still there."""
        return any(self._givers.get(name) is item for name in results(item))

    def innermost(self, name: str) -> int | None:
        """The axis along which a value lies in memory; None where no kernel of ours made it."""
        maker = self.maker(name)
        if maker is not None:
            return maker.channel_axis
        node, kind = self.node(name), self.types[name]
        axes = turned_axes(node, len(kind.shape)) if isinstance(kind, TensorType) else None
        if node is None or axes is None:
            return None
        inner = self.innermost(node.refs()[0])
        return None if inner is None else axes.index(inner)


def turned_axes(node: Node | None, n_axes: int) -> list[int] | None:
    """Which axis of what it reads each axis of a turn is; None of another node.

    Args:
        node: any.
        n_axes: of its result.
    """
    if node is None or node.op not in TURNS or not node.refs():
        return None
    axes = list(range(n_axes))
    match node.op, node.args[1:]:
        case "aten.transpose.int", (int(one), int(other)):
            axes[one], axes[other] = axes[other], axes[one]
        case "aten.permute.default", (tuple(order),) if len(order) == n_axes:
            axes = [axis % n_axes for axis in order if isinstance(axis, int)]
        case _:
            return None
    return axes


def _index(items: Sequence[Item], wanted: Item) -> int:
    return next(i for i, item in enumerate(items) if item is wanted)
