"""Activations that never have the other sign than their input, but are zero for some of it below.

Found by running them, whatever they are called: modules, functions, and modules of one's own that
are made of either (`x * relu6(x + 3) / 6`, a GELU times a constant).
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from irbin.binary.activations import SignKept

_SOME = 150
"""Of the numbers that are tried, so many that those below zero are more."""


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
    """Whether `module` computes, number by number, what never has the other sign than its input.

    And is zero for some inputs below zero, but not for all. Found by running it.
    """
    if any(True for _ in module.parameters()):
        return False
    size = torch.logspace(-3, 2.5, 111)
    x = torch.cat([-size, size])
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            run = not_in_place(module).eval()
            y, turned = run(x.clone()), run(x[:_SOME].flip(0))
    except Exception:  # raises whatever the module's own code does with a vector
        return False
    if not isinstance(y, torch.Tensor) or y.shape != x.shape or not y.is_floating_point():
        return False
    # neither their order nor their company matters
    if not isinstance(turned, torch.Tensor) or not torch.allclose(y[:_SOME].flip(0), turned):
        return False
    below, above = y[: len(size)], y[len(size) :]
    keeps = bool((below <= 0).all()) and bool((above >= 0).all())
    return keeps and bool((below < 0).any()) and bool((below == 0).any())


def not_in_place(module: nn.Module) -> nn.Module:
    """A copy of an activation that leaves its input alone."""
    made = copy.deepcopy(module)
    if vars(made).get("inplace") is True:
        setattr(made, "inplace", False)  # noqa: B010 - mypy sees tensors only
    return made
