"""Activations in front of a sign: RPReLU, and what keeps the sign of others from rounding.

The sign behind an activation sees how its values are distributed around zero; two offsets a channel
let training choose that (ReActNet's RPReLU, Liu et al., ECCV 2020, §4.2). GELU and its like have
the sign of their input, but round to −0.0 where that is far below zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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


LEAST = 2.0**-126
"""Smallest normal float32: moves no number that an activation gives, but a zero."""

_LEAST_OF_HALF = 2.0**-24
"""Smallest number of float16 above zero, which does not hold the other."""


class SignKept(nn.Module):
    """An activation whose result is below zero wherever its input is; final.

    y = activation(x) − 2⁻¹²⁶·[x < 0], any shape: nothing but a zero changes. For activations that
    never have the other sign than their input (GELU, SiLU, Mish, hard-swish …): the sign behind is
    then that of x, exactly, and a packed network takes it of x itself.

    Args:
        activation: without parameters. Works in place if it did.
    """

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.activation = activation
        self.train(activation.training)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102 - shapes in the class docstring
        is_below = torch.lt(x.detach(), 0).to(x.dtype)  # first: the activation may work in place
        y: Tensor = self.activation(x)
        least = _LEAST_OF_HALF if y.dtype == torch.float16 else LEAST
        return y.sub_(is_below, alpha=least) if y is x else y.sub(is_below, alpha=least)


class Called(nn.Module):
    """A function or a method of tensors, called with the same further arguments always; final.

    Maps any shape to what the function makes of it.

    Args:
        function: takes the tensor first; a name means a method of the tensor.
        args: that follow the tensor.
        kwargs: by name.
    """

    def __init__(
        self, function: Callable[..., Any] | str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        super().__init__()
        self.function, self.args, self.kwargs = function, args, kwargs

    def forward(self, x: Tensor) -> Any:  # noqa: D102 - shapes in the class docstring
        if isinstance(self.function, str):
            return getattr(x, self.function)(*self.args, **self.kwargs)
        return self.function(x, *self.args, **self.kwargs)

    def extra_repr(self) -> str:  # noqa: D102 - torch's
        name = self.function if isinstance(self.function, str) else self.function.__name__
        return ", ".join(
            [name, *map(str, self.args), *(f"{k}={v}" for k, v in self.kwargs.items())]
        )
