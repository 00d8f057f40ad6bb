"""What images can be fed with: the values that a `Preprocessing` may hold.

Flags, and folders that somebody else wrote, are held to the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from irbin.bounds import MAX_REACH
from irbin.records.options import Preprocessing

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")
CROP_MODES = ("center", "squash", "border")
"""timm's names."""

_LARGEST, _SMALLEST = 1e6, 1e-6
"""Of a mean or a deviation in units of [0, 1] pixels: far beyond any, exact in float32 still."""


def fault_of(preprocessing: Preprocessing) -> str:
    """What is wrong with how images are fed, as "FIELD: expected …, got …"; '' where nothing is."""
    size = preprocessing.input_size
    if not all(1 <= side <= MAX_REACH for side in size):
        return f"`input_size`: expected sizes from 1 to {MAX_REACH}, got {list(size)}"
    for name in ("mean", "std"):
        n_numbers = len(getattr(preprocessing, name))
        if n_numbers not in (1, size[0]):
            got = n_numbers or "none"
            return f"`{name}`: expected a number for each of {size[0]} channels, got {got}"
    return fault_in(vars(preprocessing))


def fault_in(values: Mapping[str, Any]) -> str:
    """The same for some fields of a `Preprocessing`, by name, that do not depend on each other."""
    for name in ("mean", "std"):
        for value in values.get(name, ()):
            if name == "std" and not value > 0:
                return f"`std`: expected a number above 0, got {value}"
            if not math.isfinite(value):
                return f"`{name}`: expected a finite number, got {value}"
            if abs(value) > _LARGEST or (name == "std" and value < _SMALLEST):
                least = _SMALLEST if name == "std" else -_LARGEST
                return f"`{name}`: expected a number from {least:g} to {_LARGEST:g}, got {value}"
    pct = values.get("crop_pct", 1.0)
    if not _SMALLEST <= pct <= _LARGEST:
        return f"`crop_pct`: expected a share above 0, got {pct}"
    for name, known in (("interpolation", INTERPOLATIONS), ("crop_mode", CROP_MODES)):
        if values.get(name, known[0]) not in known:
            return f"`{name}`: expected one of {', '.join(known)}, got `{values[name]}`"
    return ""
