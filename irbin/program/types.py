"""What a program's nodes are made of: names, argument values and the types of tensors.

All frozen, torch-free and written to JSON as they stand in the text form (`float32[N,64,56,56]`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from irbin.bounds import MAX_AXES, MAX_EXPRESSION, MAX_INTEGER
from irbin.errors import ArtifactError

BATCH = "N"
"""The one symbol in shapes: how many images."""

DTYPES = (
    "float32",
    "float64",
    "float16",
    "bfloat16",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint8",
    "bool",
)
"""Element types of tensors, named as in torch and NumPy."""

INT = "int"
"""The dtype of a value that is no tensor but a Python integer: a size."""

_DIMENSION = re.compile(r"[N0-9+*/() -]+")
_TYPE = re.compile(r"(\w+)\[(.*)\]")


@dataclass(frozen=True)
class TensorType:
    """Element type and shape of a tensor."""

    dtype: str
    """One of `DTYPES`, or `int` for a size, which has shape ()."""
    shape: tuple[int | str, ...] = ()
    """Sizes; an expression of the batch size N, as text, where it depends on that."""

    def __str__(self) -> str:
        """As on disk: `float32[N,64,56,56]`, or `int`."""
        return (
            self.dtype if self.dtype == INT else f"{self.dtype}[{','.join(map(str, self.shape))}]"
        )

    @property
    def is_static(self) -> bool:
        """Whether no size depends on the batch."""
        return all(isinstance(size, int) for size in self.shape)

    @staticmethod
    def parse(text: object) -> TensorType:
        """The type behind its text.

        Raises:
            ArtifactError: it is not one.
        """
        if text == INT:
            return TensorType(INT)
        match = _TYPE.fullmatch(text) if isinstance(text, str) else None
        if match is None or match[1] not in DTYPES:
            raise ArtifactError(
                f"expected a type such as `float32[N,3,32,32]`, got {shortened(text)}"
            )
        sizes = match[2].split(",", MAX_AXES) if match[2] else []
        if len(sizes) > MAX_AXES:
            raise ArtifactError(f"expected at most {MAX_AXES} axes, got {shortened(text)}")
        return TensorType(match[1], tuple(map(_size, sizes)))


def _size(text: str) -> int | str:
    """A number, or an expression of N as it stands."""
    if not _DIMENSION.fullmatch(text) or len(text) > MAX_EXPRESSION:
        raise ArtifactError(
            f"expected sizes that are numbers or expressions of N, of at most {MAX_EXPRESSION} "
            f"characters, got {shortened(text)}"
        )
    if not (text.isascii() and text.isdigit()):
        return text
    if len(text) > len(str(MAX_INTEGER)) or int(text) > MAX_INTEGER:
        raise ArtifactError(f"expected sizes up to {MAX_INTEGER}, got {shortened(text)}")
    return int(text)


def shortened(value: object) -> str:
    """A value of a file for a message, however long it is."""
    if isinstance(value, str | int | float | None):
        text = value if isinstance(value, str) else str(value)
    else:  # a list may hold a thousand others
        text = type(value).__name__
    if not text.isprintable():
        text = repr(text[:80])[1:-1]  # a message is one line
    return f"`{text[:60]}…`" if len(text) > 80 else f"`{text}`"


@dataclass(frozen=True)
class Ref:
    """An argument that is an input, a constant or the result of an earlier node."""

    name: str


@dataclass(frozen=True)
class Dtype:
    """An argument that is an element type."""

    name: str


Value = None | bool | int | float | str | Ref | Dtype | tuple["Value", ...]
"""An argument of a node."""

ValueType = TensorType | tuple[TensorType, ...]
"""What a name stands for: one tensor or size, or several tensors that `getitem` picks from."""
Types = Mapping[str, ValueType]
"""What every name defined so far stands for."""


def one_tensor(kind: ValueType) -> TensorType:
    """The type of what a checked program knows to be one tensor."""
    assert isinstance(kind, TensorType), "a Program holds no other here"
    return kind


def in_text(kind: ValueType | None) -> str:
    """A type as messages name it; several in brackets."""
    return f"({', '.join(map(str, kind))})" if isinstance(kind, tuple) else str(kind)


def fixed(size: int | str) -> int:
    """A size of a checked program that does not depend on the batch."""
    assert isinstance(size, int), "a Program holds no other here"
    return size


@dataclass(frozen=True)
class Node:
    """One operation."""

    name: str
    """Of its result; unique in the program."""
    op: str
    """From the vocabulary: `aten.relu.default`, `bconv2d`."""
    args: tuple[Value, ...]
    """Positional arguments, in the operator's order."""
    kwargs: dict[str, Value] = field(default_factory=dict)
    """Keyword arguments."""
    type: ValueType = TensorType(INT)
    """Of its result."""

    def refs(self) -> tuple[str, ...]:
        """Names it reads, in order, with repetitions."""
        return tuple(_refs((*self.args, *self.kwargs.values())))


def _refs(value: Value) -> list[str]:
    if isinstance(value, Ref):
        return [value.name]
    if isinstance(value, tuple):
        return [name for item in value for name in _refs(item)]
    return []
