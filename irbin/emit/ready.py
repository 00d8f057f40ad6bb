"""A packed network made ready to be written: of floats, or of bytes."""

from __future__ import annotations

import numpy as np

from irbin.artifact.read import Artifact
from irbin.errors import UsageError
from irbin.records.in_c import CInput
from irbin.runtime.engine import Engine
from irbin.runtime.work import Work


def engine_of(artifact: Artifact) -> Engine:
    """What answers as the C does: with float convolutions of irbin's, as `irbin.load` has them."""
    return Engine(artifact, float_convs=True)


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
