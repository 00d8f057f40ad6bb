"""irbin's own nodes with their arguments by name, as the vocabulary declares them.

A `Program` holds no other: `check.py` has looked at every argument's type and size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self, cast

from irbin.border import Border
from irbin.program.types import Node, Ref

Pair = tuple[int, int]


class _Own:
    """A node's arguments; abstract."""

    @classmethod
    def of(cls, node: Node) -> Self:
        """The arguments of a node of this operator in a `Program`."""
        assert node.op == cls.__name__.lower(), "a caller looks at the operator"
        return cls(*cast("Any", node.args))


@dataclass(frozen=True)
class BitPack(_Own):
    """`bitpack`: the signs of a float tensor."""

    x: Ref
    channel_axis: int
    groups: int


@dataclass(frozen=True)
class BConv2d(_Own):
    """`bconv2d`: an inner product of signs at every place of a window."""

    bits: Ref
    weight_bits: Ref
    scale_log2: Ref | None
    bias: Ref | None
    in_channels: int
    """Of all groups together."""
    stride: Pair
    border: Border
    dilation: Pair
    groups: int

    @property
    def depth(self) -> int:
        """Input channels that one output sees."""
        return self.in_channels // self.groups


@dataclass(frozen=True)
class BGemm(_Own):
    """`bgemm`: an inner product of signs for every row."""

    bits: Ref
    weight_bits: Ref
    scale_log2: Ref | None
    bias: Ref | None
    in_features: int

    @property
    def depth(self) -> int:
        """Input features, all of which an output sees."""
        return self.in_features


@dataclass(frozen=True)
class BitUnpack(_Own):
    """`bitunpack`: signs as floats, for the weight of a layer whose activations are float."""

    weight_bits: Ref
    scale_log2: Ref | None
    in_channels: int

    @property
    def depth(self) -> int:
        """Input channels, all of which an output sees."""
        return self.in_channels


OWN: dict[str, type[BitPack | BConv2d | BGemm | BitUnpack]] = {
    "bitpack": BitPack,
    "bconv2d": BConv2d,
    "bgemm": BGemm,
    "bitunpack": BitUnpack,
}


def inner_product(node: Node) -> BConv2d | BGemm | None:
    """The arguments of an inner product of signs; None for any other node."""
    if node.op == "bconv2d":
        return BConv2d.of(node)
    return BGemm.of(node) if node.op == "bgemm" else None


def binary_weight(node: Node) -> BConv2d | BGemm | BitUnpack | None:
    """The arguments of a node that reads packed weights; None for any other."""
    return BitUnpack.of(node) if node.op == "bitunpack" else inner_product(node)
