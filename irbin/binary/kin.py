"""Which float convolutions do more than `nn.Conv2d`, and what a binary layer takes over of it.

timm's kin are recognized by class name: this room imports neither timm nor torchvision.
"""

from __future__ import annotations

from typing import cast

from torch import nn

Gain = tuple[nn.Parameter | None, float]
"""`BinaryLayer.gain` and `gain_factor`."""

NO_GAIN: Gain = (None, 1.0)
"""Of every layer but those with scaled weight standardization."""


def pads_by_input_size(layer: nn.Conv2d) -> bool:
    """Whether `layer` computes its padding from its input's size, as timm's `Conv2dSame` does."""
    names = {base.__name__ for base in type(layer).__mro__}
    if names & {"StdConv2dSame", "ScaledStdConv2dSame"}:  # theirs may turn out to be fixed
        return bool(vars(layer)["same_pad"])
    return bool(names & {"Conv2dSame", "Conv2dSameExport"})


def standardizes_weight(layer: nn.Module) -> bool:
    """Whether `layer` is one of timm's that standardize their weight as Libra-PB does."""
    names = {"StdConv2d", "StdConv2dSame", "ScaledStdConv2d", "ScaledStdConv2dSame"}
    return type(layer).__name__ in names


def has_gain(layer: nn.Module) -> bool:
    """Whether `layer` scales its standardized weight by a learned gain per output channel."""
    return type(layer).__name__ in {"ScaledStdConv2d", "ScaledStdConv2dSame"}


def gain_of(layer: nn.Conv2d) -> Gain:
    """Its gain and the constant beside it."""
    if not has_gain(layer):
        return NO_GAIN
    return cast(nn.Parameter, layer._parameters["gain"]), float(vars(layer)["scale"])
