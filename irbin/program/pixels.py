"""Whether a program can read images as bytes: only convolutions of ours may read them."""

from __future__ import annotations

from collections.abc import Sequence

from irbin.program.fused import Fused, Item
from irbin.program.program import Program
from irbin.program.shapes import SIZE


def other_reader(program: Program, items: Sequence[Item]) -> str:
    """What else than a convolution of bytes reads the images, in words; '' where nothing does.

    Args:
        program: whose input the images are.
        items: what `fuse` made of it, `from_bytes`.
    """
    (source,) = program.inputs
    for item in items:
        if source in item.refs() and not _reads_bytes(item, source):
            node = item.root if isinstance(item, Fused) else item
            return f"`{node.name}` ({node.op}) reads them"
    return "the network gives them back" if source in program.outputs else ""


def _reads_bytes(item: Item, source: str) -> bool:
    """Whether the images' bytes are all that an item reads of them."""
    if not isinstance(item, Fused):
        return item.op == SIZE
    return (item.producer or item).from_bytes and item.refs().count(source) == 1
