"""A packed network made ready to be written: of floats, or of bytes."""

from __future__ import annotations

import numpy as np

from irbin.artifact.read import Artifact
from irbin.emit.definitions import DEFINITIONS, SOFTMAX
from irbin.errors import UsageError
from irbin.program.fused import Fused
from irbin.program.types import Node
from irbin.program.windows import has_few_outputs
from irbin.records.in_c import CInput
from irbin.runtime.calls import short
from irbin.runtime.engine import Engine
from irbin.runtime.work import Work


def engine_of(artifact: Artifact) -> Engine:
    """What answers as the C does.

    Float convolutions are irbin's, as `irbin.load` has them; what torch computes there in an order
    of its own is done by definition here. C has moves of its own (`moves.py`), to the same bits.
    """
    return Engine(artifact, float_convs=True, definitions=DEFINITIONS, walks=False)


def by_definition(work: Work) -> tuple[str, ...]:
    """Operators whose results `irbin.load` has from torch, and C as `definitions` says.

    Softmax is defined alike in both.
    """
    ops = {item.op for item in work.items if isinstance(item, Node) and item.op in DEFINITIONS}
    ops.discard(SOFTMAX)
    for item in work.items:
        one = (item.producer or item) if isinstance(item, Fused) else None
        if one is not None and one.kind == "conv" and has_few_outputs(one.root):
            ops.add(one.root.op)
    return tuple(sorted(map(short, ops)))


def work_of(engine: Engine, images: CInput) -> Work:
    """What is done with images.

    Raises:
        UsageError: its first layers read no bytes; says why.
    """
    if images == "float32":
        return engine.work
    if engine.why_floats:
        raise UsageError(
            f"`input`: expected `float32` of this network ({engine.why_floats}), got `uint8`"
        )
    return engine.work_on(np.empty(0, np.uint8))
