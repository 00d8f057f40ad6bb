"""The one object that owns the EDE schedule.

The authors update t once an epoch from the trainer, layer by layer, and never reach t_max; here t
is a function of training progress (the global step), and t and k are buffers that move with the
network.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from irbin.errors import UsageError


class EdePhase(nn.Module):
    """Where EDE stands: t = t_min·(t_max/t_min)^progress, k = max(1/t, 1) (IR-Net, §3.3).

    All binary layers of a network share one phase, registered once at the root as `ede`, so its
    state is two scalars in the state dict: `ede.t` and `ede.k`.

    Args:
        t_min: t at progress 0. The paper's 0.1; the authors' ResNet-20 1w1a code has 0.001.
        t_max: t at progress 1. 10 everywhere.

    Raises:
        UsageError: unless 0 < t_min ≤ t_max and both are finite.
    """

    t: Tensor
    k: Tensor

    def __init__(self, t_min: float = 0.1, t_max: float = 10.0) -> None:
        super().__init__()
        self.register_buffer("t", torch.tensor(1.0))
        self.register_buffer("k", torch.tensor(1.0))
        self.set_range(t_min, t_max)

    def set_range(self, t_min: float, t_max: float) -> None:
        """Chooses the ends of the schedule and goes back to progress 0, in place."""
        if not (0 < t_min <= t_max < math.inf):
            raise UsageError(
                f"`t_min` and `t_max`: expected 0 < t_min ≤ t_max, got {t_min} and {t_max}"
            )
        self.t_min, self.t_max = t_min, t_max
        self.set_progress(0.0)

    def set_progress(self, progress: float) -> None:
        """Moves t and k, in place, to where training stands; progress is clamped to [0, 1]."""
        progress = min(max(progress, 0.0), 1.0)
        t = self.t_min * (self.t_max / self.t_min) ** progress
        self.t.fill_(t)
        self.k.fill_(max(1 / t, 1.0))

    def forward(self, x: Tensor) -> Tensor:
        """x itself: some roots run all of their children in turn (`nn.Sequential`)."""
        return x
