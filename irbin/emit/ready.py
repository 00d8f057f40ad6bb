"""A packed network made ready to be written: of floats, or of bytes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from irbin.artifact.read import Artifact
from irbin.emit.definitions import DEFINITIONS, EXACT, POWER
from irbin.emit.words import CONV, SUMMED, in_words
from irbin.errors import UsageError
from irbin.program.fuse import FUSIONS, fuse
from irbin.program.fused import Item
from irbin.program.types import Node
from irbin.records.in_c import CInput
from irbin.runtime.calls import short
from irbin.runtime.engine import Engine
from irbin.runtime.work import Work


def engine_of(artifact: Artifact) -> Engine:
    """What answers as the C does.

    Float convolutions are irbin's, as `irbin.load` has them; what torch computes there in an order
    of its own is done by definition here. C has moves of its own (`moves.py`), to the same bits.
    """
    said = replace(artifact, program=in_words(artifact.program))
    return Engine(said, float_convs=True, definitions=DEFINITIONS, walks=False)


def by_definition(
    artifact: Artifact, engine: Engine, given: Collection[str] = ()
) -> tuple[str, ...]:
    """Operators whose results `irbin.load` has from torch, and C as `definitions` says.

    Args:
        artifact: the packed folder.
        engine: `engine_of` it.
        given: results that are known for one image, which torch computes at export too.
    """
    run = [node for node in engine.program.nodes if engine.is_run(node)]
    loaded = fuse(engine.program, run, FUSIONS, float_convs=True)
    own = {node.name: node.op for node in artifact.program.nodes if node.name not in given}
    left = {item.op for item in loaded if isinstance(item, Node) and own.get(item.name) == item.op}
    ops = left & ({*DEFINITIONS, CONV} - {*EXACT})
    ops -= {POWER} if not _has_roots(loaded) else set()
    ops |= {node.op for node in artifact.program.nodes if node.op in SUMMED}
    return tuple(sorted(map(short, ops)))


def _has_roots(items: Sequence[Item]) -> bool:
    """Whether something is raised to what is no integer."""
    powers = [item for item in items if isinstance(item, Node) and item.op == POWER]
    return any(node.args[1] != 2 for node in powers)


def work_of(engine: Engine, images: CInput) -> Work:
    """What is done with images.

    Args:
        engine: of the network.
        images: what it reads.

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
