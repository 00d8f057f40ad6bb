"""What fusing makes of a program's nodes: one record for a kernel and all it does on the way out.

These records live in memory only. A packed folder holds the plain program, which says the same in
more words; `fuse.py` turns one into the other, `runtime` runs either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from irbin.legs import Leg
from irbin.program.boxes import Box
from irbin.program.types import Node, TensorType, fixed

Kind = Literal[
    "dot",
    "conv",
    "linear",
    "depthwise",
    "pool",
    "average",
    "resize",
    "channel_mean",
    "layer_norm",
    "group_norm",
    "crop",
    "join",
    "gate",
    "meet",
    "walk",
    "attention",
    "rows",
]
"""Inner products of signs; a float convolution, linear layer, convolution of each channel by
itself; maximum pooling; means over pixels, numbers between them, and means over neighboring
channels; norms; slices and padding; images joined along their channels; an image and one pixel of
each; two tensors number by number; numbers taken from anywhere; attention; a pass over floats."""

ActivationStep = Literal[
    "elu", "sigmoid", "silu", "hardsigmoid", "hardswish", "gelu", "gelu_tanh", "tanh", "mish"
]
"""Steps that kernels define (`kernels/activations.py`): torch's results differ in the last bits."""
StepKind = Literal[
    "multiply", "add", "subtract", "residual", "clamp", "prelu", "write", ActivationStep
]


@dataclass(frozen=True)
class FusedStep:
    """One elementwise node, taken into a kernel."""

    kind: StepKind
    """`residual` adds a tensor, `clamp` keeps within [low, high]; `write` gives the result as it
    stands there, what follows is for its signs alone; arithmetic, `prelu` and `elu` take a
    constant."""
    operand: str | float | None = None
    """The constant, the residual's name, or a number for all channels."""
    low: float = 0.0
    """Of a clamp."""
    high: float = 0.0
    """Of a clamp."""
    before: int = 0
    """Of a residual with fewer channels: the channel that its first is added to."""
    channels: int = 0
    """How many channels a residual has, 0 for all; to others +0 is added."""
    keeps_sign: bool = False
    """Of an activation: its result is below zero wherever its input is, and nowhere else."""


class Look(NamedTuple):
    """Rows of (batch, heads, rows, numbers) as they lie in another value's memory, in numbers."""

    source: str
    """That value."""
    channel_axis: int
    """Of it, innermost in memory."""
    size: int
    """Of it, an image."""
    offset: int
    """Of the first number."""
    head: int
    """From a head to the next."""
    row: int
    """From a row to the next."""


@dataclass(frozen=True)
class Attention:
    """An attention's settings. Made by `attention.attention_of`, read by `runtime`."""

    n_heads: int
    """Side by side."""
    n_queries: int
    """Rows of queries."""
    n_keys: int
    """Rows of keys and values."""
    depth: int
    """Numbers of a query."""
    width: int
    """Numbers of a value."""
    scale: float
    """Of products."""
    mask: str | None
    """A constant that is added to them."""
    looks: tuple[Look, Look, Look]
    """At queries, keys and values."""


@dataclass(frozen=True)
class Walk:
    """What a walk's numbers are made of. Made by `walks.walk_of`, read by `runtime`."""

    legs: tuple[Leg, ...]
    """They fill the result."""
    sizes: tuple[int, ...]
    """Numbers of an image, of what is read first and of each other tensor."""
    constants: tuple[str | float, ...]
    """What is read of every image, one behind the other: names, or numbers."""


@dataclass(frozen=True)
class Fused:
    """A kernel call. Made by `fuse`, read by `runtime`."""

    root: Node
    """The node that the kernel computes; of `rows`, whose result the steps start from, or the first
    of the steps."""
    kind: Kind
    """Which kernel it is."""
    source: str
    """What is read: bits, or the float value that is pooled or goes through the steps."""
    channel_axis: int
    """Of the value the steps work on."""
    producer: Fused | None
    """Of a pooling: what makes the values it pools, a few rows at a time (`rows` or a
    convolution). The source is then the producer's."""
    steps: tuple[FusedStep, ...]
    """On the result, in order."""
    type: TensorType
    """Of the result, float32."""
    floats: str | None
    """Name under which the result is read; None if nobody does."""
    bits: str | None
    """Name under which packed signs are read, of the result or of what the steps behind a `write`
    make of it; None if nobody does."""
    bits_type: TensorType | None
    """Of the packed signs."""
    threshold: bool
    """Only signs are read and no tensor is added: a comparison of integers may do."""
    absorbed: tuple[str, ...]
    """The nodes of the plain program it stands for, in order."""

    box: Box | None = None
    """Of a `crop`; of a `conv` from bytes, the zero padding that stood in front of it."""
    others: tuple[str, ...] = ()
    """Tensors that the kernel reads beside the source and what steps add: of `join` the images
    behind the first, of `gate` the pixels, of `meet` the second,
    of `attention` what holds keys and values."""
    from_bytes: bool = False
    """Of a `conv`: its source holds pixels as bytes, (batch, height, width, channels) in memory,
    which it normalizes itself."""
    source_axis: int | None = None
    """Along which the source's channels lie; None: as `channel_axis` says."""
    others_axes: tuple[int, ...] = ()
    """The same of `others`; empty: as `channel_axis` says."""
    attention: Attention | None = None
    """Of an `attention`."""
    walk: Walk | None = None
    """Of a `walk`."""

    @property
    def is_root(self) -> bool:
        """Whether the root is computed here; else another does that."""
        return self.kind != "rows"

    @property
    def takes_rows(self) -> bool:
        """Whether it knows no images: any axes but that of the channels are one."""
        return self.kind in ("rows", "linear", "layer_norm", "meet") or self.root.op == "bgemm"

    @property
    def n_channels(self) -> int:
        """Of the value the steps work on."""
        return fixed(self.type.shape[self.channel_axis])

    @property
    def name(self) -> str:
        """For reports: its last node."""
        return self.absorbed[-1]

    def refs(self) -> tuple[str, ...]:
        """Names it reads, constants too."""
        inner = self.producer.refs()[1:] if self.producer is not None else ()
        operands = tuple(s.operand for s in self.steps if isinstance(s.operand, str))
        return (self.source, *self._weights(), *inner, *operands, *self.others)

    def _weights(self) -> tuple[str, ...]:
        match self.kind:
            case "dot":
                return self.root.refs()[1:]
            case "conv" | "depthwise" | "linear":  # a bias is a step
                return self.root.refs()[1:2]
            case "walk" if self.walk is not None:
                return tuple(name for name in self.walk.constants if isinstance(name, str))
        return ()

    def results(self) -> tuple[str, ...]:
        """Names it gives."""
        return tuple(name for name in (self.floats, self.bits) if name is not None)


Item = Node | Fused
"""One thing to do."""


def results(item: Item) -> tuple[str, ...]:
    """Names an item gives."""
    return (item.name,) if isinstance(item, Node) else item.results()
