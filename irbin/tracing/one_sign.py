"""Activations whose results all have one sign, by whatever settings: found by running them.

LeakyReLU with a negative slope, ELU with a negative α, Hardtanh between bounds of one sign, a
log-sigmoid: a list of class names knows none of them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

_NOT_ROUNDED = 10.0
"""Up to this size of an input, log-sigmoid and its kin do not round to zero in float32."""


Kind = Literal["never negative", "always negative", "relu", ""]
"""`relu`: never negative, and that function itself."""


def kind_of_module(module: nn.Module) -> Kind:
    """As `kind_of_function`, of a module without children, in evaluation mode.

    A learned slope counts as it is now, where it makes results above zero of all below: one of
    zero moves at the first step.
    """
    if any(True for _ in module.children()):
        return ""
    parameters = list(module.parameters())
    if any(p.is_meta or p.dim() != 1 for p in parameters):
        return ""
    width = max((p.numel() for p in parameters), default=1)
    run = copy.deepcopy(module).float().cpu().eval()
    kind = kind_of_function(run, width)
    return "" if parameters and kind == "relu" else kind


def kind_of_function(function: Callable[[Tensor], object], width: int = 1) -> Kind:
    """Whether results have one sign for inputs of both; '' if not, or if it cannot be told.

    Args:
        function: of one tensor, (numbers, width); may work in place, may raise.
        width: columns, each of which gets all numbers.
    """
    size = torch.logspace(-3, 2.5, 111)
    x = torch.cat([-size, size]).unsqueeze(1).expand(-1, width)
    try:
        with torch.no_grad():
            y, flipped = function(x.clone()), function(x.flip(0).clone())
    except Exception:  # raises whatever the network's own code does with such a tensor
        return ""
    if not isinstance(y, Tensor) or not isinstance(flipped, Tensor) or y.shape != x.shape:
        return ""
    if not y.is_floating_point() or not torch.allclose(y.flip(0), flipped):
        return ""  # not number by number
    if torch.equal(y, x.clamp(min=0)):
        return "relu"
    if bool((y >= 0).all()):
        return "never negative"
    return "always negative" if bool((y[x.abs() <= _NOT_ROUNDED] < 0).all()) else ""
