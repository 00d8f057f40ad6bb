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
    """Where something in the arena or the image lies, as C; a window of it, if it has several."""
    if place.base == "image":  # never of bytes
        return "image" + _behind(place.offset // 4, place.apart // 4)
    return f"{kind}({_behind(place.offset, place.apart, first='')})"


def read(w: Writer, place: Place, kind: str = "FLOATS") -> str:
    """Where something that is read lies, as C."""
    if place.constant is None:
        return pointer(place, kind)
    return w.array(place.constant, "operand") + _behind(place.offset // 4, place.apart // 4)


def _behind(offset: int, apart: int, first: str = " + ") -> str:
    """How much is added to where something begins."""
    further = f" + nth * {apart}" if apart else ""
    return f"{first}{offset}{further}" if offset or not first else further
