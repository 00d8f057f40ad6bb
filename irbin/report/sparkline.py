"""A row of figures as a row of blocks of eight heights, for people who look rather than read."""

from __future__ import annotations

import math
from collections.abc import Sequence

BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int) -> str:
    """`▁▃▅▆▇█`, the lowest value as the lowest block; values that are not finite are left out.

    Args:
        values: in order of time.
        width: most characters; where there are more values, each block is the mean of its share.
    """
    finite = [value for value in values if math.isfinite(value)]
    n = min(width, len(finite))
    means = [_mean(finite[i * len(finite) // n : (i + 1) * len(finite) // n]) for i in range(n)]
    low, high = min(means, default=0.0), max(means, default=0.0)
    if high == low:
        return BLOCKS[len(BLOCKS) // 2] * n
    top = len(BLOCKS) - 1
    return "".join(BLOCKS[round(top * (mean - low) / (high - low))] for mean in means)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
