"""A node's arguments as ONNX values, for the rules that write it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from irbin.onnx.graph import Graph, Unwritable
from irbin.program.types import INT, Node, Ref, TensorType, Types, one_tensor
from irbin.program.vocabulary import signatures
from irbin.runtime.arrays import Array

Shape = tuple[int | str, ...]


@dataclass(frozen=True)
class Signs:
    """What `bitpack` gives: ±1 as floats, laid out as what was packed."""

    value: str
    """Name in the graph."""
    channel_axis: int
    """Where the channels are, counted from 0."""
    n_axes: int
    """Of the tensor."""


Written = str | Signs | tuple[str | None, ...] | None
"""What stands for a node's result: a value, several (None: not written), signs, None for sizes."""


class Call:
    """One node and what its arguments are in the graph.

    Args:
        graph: what is written.
        node: to be written.
        values: of what stands before it.
        types: of everything in the program.
        arrays: constants as arrays.
    """

    def __init__(
        self,
        graph: Graph,
        node: Node,
        values: Mapping[str, Written],
        types: Types,
        arrays: Mapping[str, Array],
    ) -> None:
        self.graph, self.node, self.values, self.types = graph, node, values, types
        self.arrays = arrays
        names = [argument.name for argument in signatures()[node.op]]
        self.given: dict[str, Any] = dict(zip(names, node.args, strict=False)) | node.kwargs

    @property
    def type(self) -> TensorType:
        """Of the result; of the first, where there are several."""
        return self.node.type[0] if isinstance(self.node.type, tuple) else self.node.type

    def has(self, name: str) -> bool:
        """Whether an argument is given, and is not null."""
        return self.given.get(name) is not None

    def kind(self, name: str = "self") -> TensorType:
        """The type of a tensor argument."""
        return self.kind_of(self.given[name])

    def kind_of(self, value: Any) -> TensorType:
        """The type of a reference to a tensor."""
        if not isinstance(value, Ref):
            raise Unwritable("an argument that is no tensor")
        return one_tensor(self.types[value.name])

    def sizes(self, name: str = "self") -> Shape:
        """The shape of a tensor argument."""
        return self.kind(name).shape

    def rank(self, name: str = "self") -> int:
        """How many axes a tensor argument has."""
        return len(self.sizes(name))

    def static(self, name: str, axis: int) -> int:
        """A size that does not depend on the batch."""
        size = self.sizes(name)[axis]
        if not isinstance(size, int):
            raise Unwritable("it works along the axis of the images")
        return size

    def tensor(self, name: str = "self", dtype: str | None = None) -> str:
        """A tensor argument, of another element type where that is asked for."""
        return self.value_of(self.given[name], dtype)

    def value_of(self, value: Any, dtype: str | None = None) -> str:
        """A reference to a tensor as a value of the graph."""
        written = self.values.get(value.name) if isinstance(value, Ref) else None
        if not isinstance(written, str):
            raise Unwritable("what it reads is no tensor of numbers in ONNX")
        kind = self.kind_of(value).dtype
        if dtype is None or dtype == kind:
            return written
        return self.graph.add("Cast", written, to=dtype)

    def operand(self, name: str, dtype: str) -> str:
        """A tensor or a number, as a value of the graph."""
        value = self.given[name]
        if isinstance(value, Ref) and self.kind_of(value).dtype != INT:
            return self.value_of(value, dtype)
        return self.scalar(self.number(name), dtype)

    def scalar(self, value: float, dtype: str = "float32") -> str:
        """A number as a value of the graph."""
        if dtype == "bfloat16":
            raise Unwritable("numbers in bfloat16")
        return self.graph.constant(value, dtype)

    def number(self, name: str, default: Any = None) -> Any:
        """A number of the program, not of the images."""
        value = self.given.get(name, default)
        if isinstance(value, Ref):
            raise Unwritable(f"`{name}` depends on the images")
        return value

    def numbers(self, name: str, count: int, default: int = 0) -> tuple[int, ...]:
        """Whole numbers; one stands for all, none for so many defaults."""
        value = self.number(name)
        values = value if isinstance(value, tuple) else () if value is None else (value,)
        values = tuple(values) or (default,) * count
        values = values * count if len(values) == 1 else values
        if len(values) != count or not all(isinstance(one, int) for one in values):
            raise Unwritable(f"`{name}` depends on the images")
        return values

    def axis(self, name: str = "dim", default: int = 0, n_axes: int | None = None) -> int:
        """An axis, counted from 0."""
        axis: int = self.number(name, default)
        return axis % max(n_axes if n_axes is not None else self.rank(), 1)

    def axes(self, name: str = "dim") -> list[int]:
        """Axes, counted from 0; all where none are given."""
        value = self.number(name)
        rank = self.rank()
        given = range(rank) if value in (None, ()) else value
        return [axis % rank for axis in (given if not isinstance(given, int) else (given,))]

    def refs(self, name: str) -> list[Ref]:
        """References of a list."""
        refs: list[Ref] = list(self.given[name])
        return refs


Rule = Callable[[Call], str]
"""Writes a node, and names its result in the graph."""
