"""An ONNX graph while it is written: nodes, constants, names; in plain Python and NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from irbin.program.shapes import sizes
from irbin.program.types import BATCH, TensorType
from irbin.records.options import FloatDtype
from irbin.runtime.arrays import Array

ABSENT = ""
"""An optional input that is left out."""


class Unwritable(Exception):  # noqa: N818 - an answer, not an error
    """Why ONNX is not written for a node, in words."""


@dataclass(frozen=True)
class OnnxNode:
    """One of a graph's nodes."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Stored:
    """A constant as the file holds it."""

    dtype: str
    """Of NumPy's names, or `bfloat16`, whose numbers `array` holds as uint16."""
    array: Array


class Graph:
    """What is written.

    Args:
        images: name of the input.
        taken: names that no temporary result may have.
        float_dtype: how floats are stored that it holds exactly; others are float32.

    Attributes:
        nodes: in order.
        constants: by name.
    """

    def __init__(self, images: str, taken: set[str], float_dtype: FloatDtype = "float32") -> None:
        self.nodes: list[OnnxNode] = []
        self.constants: dict[str, Stored] = {}
        self._images, self._taken, self._float_dtype = images, taken, float_dtype
        self._count = 0
        self._known: dict[Any, str] = {}

    def fresh(self) -> str:
        """A name that nothing has."""
        while True:
            self._count += 1
            name = f"t{self._count}"
            if name not in self._taken:
                return name

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        """A node with one result, whose name is given back."""
        return self.several(op, *inputs, count=1, **attributes)[0]

    def several(self, op: str, *inputs: str, count: int, **attributes: Any) -> tuple[str, ...]:
        """A node with `count` results."""
        outputs = tuple(self.fresh() for _ in range(count))
        self.nodes.append(OnnxNode(op, inputs, outputs, attributes))
        return outputs

    def constant(self, value: Any, dtype: str | None = None, name: str | None = None) -> str:
        """A tensor of the file; equal ones are one.

        Args:
            value: an array, a number or a list of numbers.
            dtype: NumPy's name; the value's own where there is none.
            name: wished for.
        """
        array = np.asarray(value, dtype)
        key = (str(array.dtype), array.shape, array.tobytes())
        if key not in self._known:
            stored = self._stored(array)
            chosen = self.fresh() if name is None or name in self.constants else name
            self.constants[chosen] = stored
            is_half = stored.dtype != str(array.dtype)
            self._known[key] = self.add("Cast", chosen, to=str(array.dtype)) if is_half else chosen
        return self._known[key]

    def _stored(self, array: Array) -> Stored:
        if array.dtype == np.float32 and array.ndim:
            if self._float_dtype == "float16":
                with np.errstate(over="ignore"):
                    half = array.astype(np.float16)
                if np.array_equal(half.astype(np.float32), array):
                    return Stored("float16", half)
            words = np.ascontiguousarray(array).view(np.uint32)
            if self._float_dtype == "bfloat16" and not (words & 0xFFFF).any():
                return Stored("bfloat16", (words >> 16).astype(np.uint16))
        return Stored(str(array.dtype), np.ascontiguousarray(array).reshape(array.shape))

    def integers(self, values: Sequence[int]) -> str:
        """An int64 vector."""
        return self.constant(np.array(values, np.int64))

    def reshaped(self, x: str, shape: Sequence[int | str]) -> str:
        """`x` in another shape, of which sizes may depend on the batch."""
        open_sizes = [size for size in shape if not isinstance(size, int)]
        if len(open_sizes) > 1:
            return self.add("Reshape", x, self.shape(shape))
        known = [size if isinstance(size, int) else -1 for size in shape]
        if 0 in known:
            raise Unwritable("a tensor without elements")
        return self.add("Reshape", x, self.integers(known))

    def shape(self, shape: Sequence[int | str]) -> str:
        """A shape as an int64 vector."""
        if all(isinstance(size, int) for size in shape):
            return self.integers([int(size) for size in shape])
        parts = [self.integers([s]) if isinstance(s, int) else self._size(s) for s in shape]
        return parts[0] if len(parts) == 1 else self.add("Concat", *parts, axis=0)

    def _size(self, text: str) -> str:
        """A size that depends on the batch."""
        if text not in self._known:
            one, two, three = (sizes(TensorType("float32", (text,)), n)[0] for n in (1, 2, 3))
            if (two, three) != (2 * one, 3 * one):
                raise Unwritable(f"a size of {text}")
            if text == BATCH or one == 1:
                self._known[text] = self.add("Shape", self._images, start=0, end=1)
            else:
                self._known[text] = self.add("Mul", self._size(BATCH), self.integers([one]))
        return self._known[text]

    def sliced(self, x: str, axis: int, start: int, end: int, step: int = 1) -> str:
        """Part of one axis."""
        given = (self.integers([number]) for number in (start, end, axis, step))
        return self.add("Slice", x, *given)

    def named(self, old: str, new: str) -> bool:
        """Gives the last node's only result another name; whether that was it."""
        last = self.nodes[-1] if self.nodes else None
        if last is None or last.outputs != (old,) or old in self._known.values():
            return False
        self.nodes[-1] = OnnxNode(last.op, last.inputs, (new,), last.attributes)
        return True
