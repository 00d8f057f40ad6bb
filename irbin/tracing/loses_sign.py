"""Activations that never have the other sign than their input, but lose it for some numbers.

Where they are zero by definition (hard-swish below −3) or by rounding (GELU far below zero), or
where what is left of a difference is rounding (`x - tanh(x)` near zero). Likewise those that never
have the same sign (`tanh(x) - x`). Found by running them, whatever they are called: modules,
functions, and modules of one's own that are made of either (`x * relu6(x + 3) / 6`).
"""

from __future__ import annotations

import copy
from typing import Literal

import torch
from torch import nn

from irbin.binary.activations import SignKept

_SIZES = torch.logspace(-8, 2.5, 211)
_SOME = 280
"""Of the numbers that are tried, so many that those below zero are more."""
_ROUNDING = 2.0**-50
"""Of x: a result in float64 that is not larger has no sign that could be trusted."""


def whole_activations(module: nn.Module) -> set[nn.Module]:
    """The modules inside `module` that are such activations as a whole, made of other things.

    Not those of torch, which are leaves by themselves.
    """
    return {
        m
        for m in module.modules()
        if not type(m).__module__.startswith("torch.nn.")
        and not isinstance(m, SignKept)
        and loses_sign(m)
    }


def loses_sign(module: nn.Module) -> bool:
    """Whether `lost_sign` has something to say of it."""
    return lost_sign(module) != 0


def lost_sign(module: nn.Module) -> Literal[-1, 0, 1]:
    """1 for what computes, number by number, what never has the other sign than its input.

    But in float32 has not its sign for some numbers, and for others below zero has. Found by
    running it, in float64 too, where there is a sign to be seen. −1 where that holds for the
    negated input.

    Args:
        module: 0 for one with parameters, and for whatever does not take a vector.
    """
    if any(True for _ in module.parameters()):
        return 0
    x = torch.cat([-_SIZES, _SIZES])
    y, turned = _run(module, x), _run(module, x[:_SOME].flip(0))
    if y is None or turned is None:
        return 0
    if not torch.allclose(y[:_SOME].flip(0), turned, atol=1e-6):
        return 0  # their order or their company matters
    exact = _run(module, x.double())
    exact = y.double() if exact is None else exact
    if _loses(y, exact, x):
        return 1
    return -1 if _loses(y.flip(0), exact.flip(0), x) else 0


def _loses(y: torch.Tensor, exact: torch.Tensor, x: torch.Tensor) -> bool:
    below = x < 0
    exact = torch.where(exact.abs() <= _ROUNDING * x.abs(), 0.0, exact)
    keeps = bool((exact[below] <= 0).all()) and bool((exact[~below] >= 0).all())
    is_lost = bool(((y < 0) != below).any())
    return keeps and is_lost and bool((y[below] < 0).any())


def _run(module: nn.Module, x: torch.Tensor) -> torch.Tensor | None:
    """None where it takes no vector of these numbers, or makes something else of it."""
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            y = not_in_place(module).eval()(x.clone())
    except Exception:  # raises whatever the module's own code does with a vector
        return None
    is_one = isinstance(y, torch.Tensor) and y.shape == x.shape and y.is_floating_point()
    return y if is_one else None


def not_in_place(module: nn.Module) -> nn.Module:
    """A copy of an activation that leaves its input alone."""
    made = copy.deepcopy(module)
    if vars(made).get("inplace") is True:
        setattr(made, "inplace", False)  # noqa: B010 - mypy sees tensors only
    return made
