"""Activations in front of a sign: RPReLU, and what keeps the sign of others from rounding.

The sign behind an activation sees how its values are distributed around zero; two offsets a channel
let training choose that (ReActNet's RPReLU, Liu et al., ECCV 2020, §4.2). GELU and its like have
the sign of their input, but round to −0.0 where that is far below zero; x − tanh(x) has it too, but
rounds to either side near zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irbin.bits import LEAST


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


_LEAST_OF_HALF = 2.0**-24
"""Smallest number of float16 above zero, which does not hold the other."""


class SignKept(nn.Module):
    """An activation whose result is below zero wherever its input is, and nowhere else; final.

    y = min(activation(x), −2⁻¹²⁶) where x < 0, max(activation(x), 0) elsewhere, any shape; its
    gradient is the activation's. For activations that never have the other sign than their input:
    where they round to zero (GELU, SiLU, hard-swish far below zero) or what is left of a difference
    is rounding (x − tanh(x) near zero), the sign behind is that of x, exactly, and a packed network
    takes it of x itself. No other number changes.

    Args:
        activation: without parameters. Works in place if it did. Called with more than x, it gives
            what it gives.
        falls: it never has the same sign as its input (tanh(x) − x): −x takes the place of x above.
    """

    def __init__(self, activation: nn.Module, *, falls: bool = False) -> None:
        super().__init__()
        self.activation = activation
        self.falls = falls
        self.train(activation.training)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # noqa: D102 - shapes in the class docstring
        if args or kwargs:  # with which its sign may be another
            made: Tensor = self.activation(x, *args, **kwargs)
            return made
        return sign_kept(self.activation, x, falls=self.falls)

    def extra_repr(self) -> str:  # noqa: D102 - torch's
        return "falls" if self.falls else ""


def sign_kept(activation: Callable[[Tensor], Tensor], x: Tensor, *, falls: bool = False) -> Tensor:
    """What `SignKept` makes of x, any shape; `activation` may work in place."""
    seen = x.detach()
    # first: the activation may work in place
    is_below = torch.gt(seen, 0) if falls else torch.lt(seen, 0)
    y = activation(x)
    if torch.is_grad_enabled() and y.requires_grad and not torch.onnx.is_in_onnx_export():
        kept: Tensor = _KeepSign.apply(y, is_below)
    else:
        kept = _keep_sign(y, is_below)
    return y.copy_(kept) if y is x else kept


def _keep_sign(y: Tensor, is_below: Tensor) -> Tensor:
    least = _LEAST_OF_HALF if y.dtype == torch.float16 else LEAST
    return torch.where(is_below, y.clamp(max=-least), y.clamp(min=0))


class _KeepSign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, is_below: Tensor) -> Tensor:  # noqa: ARG004 - torch's signature
        return _keep_sign(y, is_below)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:  # noqa: ARG004 - torch's
        return grad_outputs[0], None


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


class Place(NamedTuple):
    """The result of a step of `Composed`; its input is the first one."""

    number: int


class Step(NamedTuple):
    """A call of `Composed`: arguments are plain values and places, in lists, tuples and so on."""

    function: Callable[..., Any] | str | int
    """A name means a method of the first argument, a number a module."""
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Composed(nn.Module):
    """An activation written as several calls (`x - torch.tanh(x)`); final.

    Maps any shape to what the last step makes of it.

    Args:
        steps: first to last.
        modules: those that steps call, without parameters.
    """

    def __init__(self, steps: tuple[Step, ...], modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self.steps, self.parts = steps, nn.ModuleList(modules)

    def forward(self, x: Tensor) -> Any:  # noqa: D102 - shapes in the class docstring
        values: list[Any] = [x]
        for step in self.steps:
            args, kwargs = _placed(step.args, values), _placed(step.kwargs, values)
            if isinstance(step.function, str):
                values.append(getattr(args[0], step.function)(*args[1:], **kwargs))
            else:
                part = step.function
                call = self.parts[part] if isinstance(part, int) else part
                values.append(call(*args, **kwargs))
        return values[-1]

    def extra_repr(self) -> str:  # noqa: D102 - torch's
        return ", ".join(getattr(s.function, "__name__", str(s.function)) for s in self.steps)


def _placed(value: Any, values: list[Any]) -> Any:
    if isinstance(value, Place):
        return values[value.number]
    if isinstance(value, dict):
        return {k: _placed(v, values) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([_placed(v, values) for v in value])
    return value
