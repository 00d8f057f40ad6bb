"""What writing a call takes: its constants get names, its places become pointers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from irbin.emit.placed import Call, Place
from irbin.emit.weights import Weights


@dataclass(frozen=True)
class Writer:
    """What the lines of one call need."""

    call: Call
    weights: Weights
    number: int

    def array(self, values: np.ndarray, what: str) -> str:
        """The C name of a constant."""
        return self.weights.add(values, f"{self.number}_{what}")


def pointer(place: Place, kind: str) -> str:
    """Where something in the arena or the image lies, as C."""
    if place.base == "image":
        return f"image + {place.offset // 4}" if place.offset else "image"  # never of bytes
    return f"{kind}({place.offset})"


def read(w: Writer, place: Place, kind: str = "FLOATS") -> str:
    """Where something that is read lies, as C."""
    if place.constant is None:
        return pointer(place, kind)
    name = w.array(place.constant, "operand")
    return f"{name} + {place.offset // 4}" if place.offset else name
