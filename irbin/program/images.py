"""Where a program's tensors hold the images, and what a node does to them: see `batch.py`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from irbin.program.types import INT, Node, Ref, TensorType, Value, ValueType
from irbin.program.vocabulary import signatures


class Images(NamedTuple):
    """How a tensor's batch axis, of size before · N · after, is made up.

    Place i along it belongs to image n where i = (a · N + n) · after + b.
    """

    before: int = 1
    after: int = 1
    is_rank: bool = False
    """Whether the values are the places themselves (`arange(N)`)."""


EVERYWHERE = Images(0, 0)
"""Of a tensor that is filled with one number: any make-up is right."""


class Mixed(Exception):  # noqa: N818 - an answer, not an error
    """What a node does to the images, in words."""


_COEFFICIENT = re.compile(r"(?:(\d+)\*)?N")


def axis_of(kind: ValueType) -> int | None:
    """The axis that holds the images, of several results the first one's; None if there is none."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    first: int | None = None
    for one in kinds:
        axes = [i for i, size in enumerate(one.shape) if isinstance(size, str)]
        if len(axes) > 1:
            raise Mixed(f"gives a result with two axes of images, {one}")
        first = axes[0] if axes and first is None else first
    return first


def per_image(size: int | str) -> int:
    """k of a size k·N."""
    match = _COEFFICIENT.fullmatch(str(size))
    if match is None:
        raise Mixed(f"gives {size} places for N images")
    return int(match[1] or 1)


class Call:
    """One node, its arguments by name, and what is known of those that depend on the images."""

    def __init__(
        self, node: Node, types: Mapping[str, ValueType], images: Mapping[str, Images]
    ) -> None:
        arguments = signatures()[node.op]
        self.node, self.types, self.images = node, types, images
        self.given: dict[str, Value] = {a.name: None for a in arguments}
        self.given |= {a.name: v for a, v in zip(arguments, node.args, strict=False)}
        self.given |= node.kwargs
        self.kinds = {a.name: a.kind for a in arguments}
        self.tensors = [
            r for r in map(Ref, dict.fromkeys(node.refs())) if self.kind(r).dtype != INT
        ]
        self.batched = [r.name for r in self.tensors if self.axis(r) is not None]

    def refuse_numbers(self) -> None:
        """A size is a fine size, but no number to compute with."""
        for name, value in self.given.items():
            kind = self.kinds[name].rstrip("?")
            if kind not in ("number", "operand", "float") or not isinstance(value, Ref):
                continue
            if self.kind(value).dtype == INT and not self.node.op.startswith("aten.arange"):
                raise Mixed("computes with the number of images")

    def name(self, argument: str) -> str:
        """Of an argument that is a reference; '' of another."""
        value = self.given[argument]
        return value.name if isinstance(value, Ref) else ""

    def kind(self, value: Value) -> TensorType:
        """The type that a value stands for; of several results the first one's."""
        kind = self.types[value.name] if isinstance(value, Ref) else TensorType(INT)
        return kind[0] if isinstance(kind, tuple) else kind

    def axis(self, value: Value) -> int | None:
        """The batch axis of an argument."""
        return axis_of(self.kind(value))

    def rank(self, argument: str) -> int:
        """Number of axes of an argument."""
        return len(self.kind(self.given[argument]).shape)

    def of(self, argument: str) -> Images:
        """The make-up of an argument's batch axis."""
        return self.images.get(self.name(argument), EVERYWHERE)

    def apart(self, argument: str, *axes: int) -> Images:
        """Demands that none of these axes of an argument, which are mixed, holds the images."""
        axis, rank = self.axis(self.given[argument]), self.rank(argument)
        if axis is not None and axis in {a % max(rank, 1) for a in axes}:
            raise Mixed("mixes the images of a batch")
        return self.of(argument)

    def alone(self, *arguments: str) -> None:
        """Demands that these arguments depend on no image."""
        if any(self.axis(self.given[a]) is not None for a in arguments):
            raise Mixed("takes for a weight what depends on the images")

    def integers(self, argument: str) -> tuple[int, ...]:
        """Those in an argument."""
        value = self.given[argument]
        values = value if isinstance(value, tuple) else (value,)
        return tuple(v for v in values if isinstance(v, int))


def check_size(size: int | str, made: Images | None) -> None:
    """Holds a size of a result against what is known of its make-up."""
    if isinstance(size, str):
        k = per_image(size)
        if made is not None and made != EVERYWHERE and k != made.before * made.after:
            raise Mixed(f"gives {size} places for N images")


def joined(operands: list[Images]) -> Images:
    """The one make-up of several operands' batch axes."""
    kinds = {one for one in operands if one != EVERYWHERE}
    if any(one.is_rank for one in kinds):
        raise Mixed("computes with the places of the images in the batch")
    if len(kinds) > 1:
        raise Mixed("joins different images")
    return kinds.pop() if kinds else EVERYWHERE


def aligned(call: Call, names: list[Value], skipped: int = 0) -> Images:
    """Operands that broadcast: their batch axes are the same one, counted from the last.

    `skipped` axes at the end do not broadcast (the matrices of a product).
    """
    from_end = set()
    for value in names:
        axis, rank = call.axis(value), len(call.kind(value).shape)
        if axis is not None:
            from_end.add(rank - axis)
            if rank - axis <= skipped:
                raise Mixed("mixes the images of a batch")
    if len(from_end) > 1:
        raise Mixed("joins different images")
    refs = [v for v in names if isinstance(v, Ref) and call.axis(v) is not None]
    return joined([call.images.get(ref.name, EVERYWHERE) for ref in refs])
