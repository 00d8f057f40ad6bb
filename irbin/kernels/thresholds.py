"""A sign behind an output transform as an integer threshold: one comparison for the arithmetic.

The thresholds are found by evaluating that arithmetic, not by algebra, so they give the same bit
for every dot. The reason they exist: each step is monotone in its input, rounding included, so a
channel's value is negative below some dot and not above it, or the other way round.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from irbin.kernels.activations import DEFINITIONS
from irbin.kernels.reference import apply_steps
from irbin.kernels.steps import Step

Thresholds = tuple[NDArray[np.int32], NDArray[np.uint8]]
"""`lower` (channels,) and `flips`, a bit per channel, packed: bit = (dot < lower) xor flip."""


def find_thresholds(steps: Sequence[Step], depth: int, n_channels: int) -> Thresholds | None:
    """The thresholds that equal the sign of the steps on every dot in [−depth, depth].

    Args:
        steps: of the output transform.
        depth: products in one dot.
        n_channels: of the output.

    Returns:
        None where there are none: a residual is added, a slope is negative, a number is not finite,
        or an activation is none of straight lines.
    """
    rises = _rises(steps, n_channels)
    if rises is None:
        return None
    ends = np.array([[-depth], [depth]], np.int32) * np.ones(n_channels, np.int32)
    if np.isnan(apply_steps(ends.astype(np.float32), steps, ())).any():
        return None

    def is_high(dot: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Whether a dot is on the upper side of its channel's threshold."""
        negative = apply_steps(dot.astype(np.float32), steps, ()) < 0
        return np.not_equal(negative, rises)

    low = np.full(n_channels, -depth, np.int32)  # the threshold is in [low, high]
    high = np.full(n_channels, depth + 1, np.int32)
    while np.any(low < high):
        middle = low + (high - low) // 2
        reached = is_high(np.minimum(middle, depth)) | (middle > depth)
        low, high = np.where(reached, low, middle + 1), np.where(reached, middle, high)
        low = np.minimum(low, high)
    return low.astype(np.int32), np.packbits(~rises, bitorder="little")


def _rises(steps: Sequence[Step], n_channels: int) -> NDArray[np.bool_] | None:
    """Whether each channel's value rises with the dot, or falls; None if neither is sure."""
    rises = np.ones(n_channels, np.bool_)
    for step in steps:
        if step.kind == "residual" or (step.kind == "clamp" and not step.low <= step.high):
            return None
        if step.kind in ("elu", "keep") or step.kind in DEFINITIONS:  # some fall first, then rise
            return None
        if step.values is None:
            continue
        if not np.isfinite(step.values).all():
            return None
        if step.kind == "prelu" and np.any(step.values < 0):
            return None
        if step.kind == "multiply":
            rises ^= step.values < 0
    return rises
