"""The one object that owns what changes while a network trains: EDE's t and k, ReCU's τ, the stage.

The authors update t once an epoch from the trainer, layer by layer, and never reach t_max; here t
is a function of training progress (the global step), and t and k are buffers that move with the
network.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from irbin.binary.recu import tau_at
from irbin.errors import UsageError


def paper_k(t: float) -> float:
    """k = max(1/t, 1) (IR-Net, §3.3): the slope's peak is 1 up to t = 1, and t from there."""
    return max(1 / t, 1.0)


def even_k(t: float) -> float:
    """k = 1/t for t < 1, t^(−1/2) from there: sharper slopes of the same mean square. Ours.

    The mean square of EDE's slope over inputs of density p tends to (4/3)·p(0)·k²·t as t grows. A
    gradient is multiplied by its root in every layer, so with k = 1 it grows with the depth.
    """
    return 1 / t if t < 1 else t**-0.5


EDE_SCALES: dict[str, Callable[[float], float]] = {"paper": paper_k, "even": even_k}
"""k as a function of t, by the name that recipes use."""


class EdePhase(nn.Module):
    """Where EDE stands: t = t_min·(t_max/t_min)^progress, and k, which follows t (IR-Net, §3.3).

    All binary layers of a network share one phase, registered once at the root as `ede`, so its
    state is two scalars in the state dict: `ede.t` and `ede.k`. What else training sets here, τ,
    σ and the stage, is not saved: a network that is opened is binary and does not clamp.

    Args:
        t_min: t at progress 0. The paper's 0.1; the authors' ResNet-20 1w1a code has 0.001.
        t_max: t at progress 1. 10 everywhere.
        scale: how k follows t, a name in `EDE_SCALES`.

    Attributes:
        tau: ReCU's τ, a scalar tensor.
        clamps: whether ReCU is on.
        spreads_inputs: whether the slope of the activations' sign is taken at x/σ of each image.
        binary_weights: False in the stages of training whose weights are float yet.
        binary_activations: False in the stage of training whose activations are float yet.

    Raises:
        UsageError: unless 0 < t_min ≤ t_max and both are finite; or no such scale.
    """

    t: Tensor
    k: Tensor
    tau: Tensor

    def __init__(self, t_min: float = 0.1, t_max: float = 10.0, scale: str = "paper") -> None:
        super().__init__()
        self.register_buffer("t", torch.tensor(1.0))
        self.register_buffer("k", torch.tensor(1.0))
        self.register_buffer("tau", torch.tensor(1.0), persistent=False)
        self.tau_min = self.tau_max = 1.0
        self.clamps = self.spreads_inputs = False
        self.binary_weights = self.binary_activations = True
        self.set_range(t_min, t_max, scale)

    def set_range(self, t_min: float, t_max: float, scale: str = "paper") -> None:
        """Chooses the schedule, its ends and k's rule, and goes back to progress 0, in place."""
        if not (0 < t_min <= t_max < math.inf):
            raise UsageError(
                f"`t_min` and `t_max`: expected 0 < t_min ≤ t_max, got {t_min} and {t_max}"
            )
        if scale not in EDE_SCALES:
            raise UsageError(f"`scale`: expected one of {', '.join(EDE_SCALES)}, got {scale}")
        self.t_min, self.t_max, self.scale = t_min, t_max, scale
        self.set_progress(0.0)

    def set_clamp(self, tau_min: float, tau_max: float) -> None:
        """Turns ReCU on, and chooses the ends of its schedule; in place."""
        self.clamps, self.tau_min, self.tau_max = True, tau_min, tau_max
        self.set_progress(0.0)

    def set_stage(self, binary_weights: bool, binary_activations: bool) -> None:
        """Chooses, in place, what of the binary layers is binary."""
        # two truth values: torch.compile takes whole numbers that change for sizes
        self.binary_weights, self.binary_activations = binary_weights, binary_activations

    def set_progress(self, progress: float) -> None:
        """Moves t, k and τ, in place, to where training stands; progress is clamped to [0, 1]."""
        progress = min(max(progress, 0.0), 1.0)
        t = self.t_min * (self.t_max / self.t_min) ** progress
        self.t.fill_(t)
        self.k.fill_(EDE_SCALES[self.scale](t))
        self.tau.fill_(tau_at(progress, self.tau_min, self.tau_max))

    def forward(self, x: Tensor) -> Tensor:
        """x itself: some roots run all of their children in turn (`nn.Sequential`)."""
        return x
