"""RPReLU, the activation of ReActNet: a PReLU whose corner moves, per channel.

The sign behind an activation sees how its values are distributed around zero; two offsets a channel
let training choose that (Liu et al., ECCV 2020, §4.2).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RPReLU(nn.Module):
    """y = PReLU(x − γ) + ζ, with γ, ζ and the slope below γ learned per channel; final.

    Maps (batch, channels, ...) to the same shape, and never writes into its input.

    Args:
        channels: of axis 1; 1 for one number that all channels share.
        slope: initial slope below γ; γ and ζ begin at zero, so it begins as a PReLU.

    Attributes:
        in_offset: γ, (channels,).
        weight: slope, (channels,), named as PReLU's.
        out_offset: ζ, (channels,).
    """

    def __init__(self, channels: int, slope: float) -> None:
        super().__init__()
        self.in_offset = nn.Parameter(torch.zeros(channels))
        self.weight = nn.Parameter(torch.full((channels,), slope))
        self.out_offset = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102 - shapes in the class docstring
        after = [1] * (x.dim() - 2)
        # in the input's type: float32 offsets would undo mixed precision
        y = F.prelu(x - self.in_offset.to(x.dtype).view(-1, *after), self.weight)
        return y + self.out_offset.to(y.dtype).view(-1, *after)

    def extra_repr(self) -> str:  # noqa: D102 - torch's
        return f"channels={len(self.weight)}"
