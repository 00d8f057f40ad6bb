"""How far the inputs of a sign lie from each other, image by image: what its slope is measured in.

A clip at ±1 means different things where inputs are small and where they are large. Taking the
slope at x/σ makes it mean the same in every layer and image; sign(x/σ) = sign(x), so only the
gradient changes. So do the authors' codes of ReCU (Xu et al., ICCV 2021) and others, by dividing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

EPSILON = 1e-5
"""Added to the variance, as in ReCU's code."""

SMALLEST = 1e-30
"""Of 1/σ; in float16 the smallest normal number."""


def inverse_spread(x: Tensor, axes: Sequence[int]) -> Tensor:
    """1/σ, σ² = variance over `axes` (of n numbers, over n) + ε, detached.

    An image that holds ±∞ has an infinite σ; it gets `SMALLEST` instead of 0, and so no gradient
    that counts, for 0·∞ would be NaN.

    Args:
        x: any shape.
        axes: those of one image.

    Returns:
        x's type; 1 along `axes`.
    """
    x, axes = x.detach(), tuple(axes)
    exact = torch.promote_types(x.dtype, torch.float32)
    mean = x.mean(axes, keepdim=True, dtype=exact)
    # not `torch.var`, which takes forty times as long on a CPU
    norm = torch.linalg.vector_norm(x, dim=axes, keepdim=True, dtype=exact)
    square = norm.square() / (x.numel() / max(mean.numel(), 1))
    variance = torch.where(square.isinf(), square, (square - mean.square()).clamp_min(0))
    smallest = max(SMALLEST, torch.finfo(x.dtype).tiny)
    return (variance + EPSILON).rsqrt().to(x.dtype).clamp_min(smallest)
