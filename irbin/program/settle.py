"""Weights that a network computes anew at every call become the tensors that they are.

Weight norm, spectral norm and pruning, by torch's hooks or parametrizations: in evaluation mode
their results depend on weights alone, so a program holds the results, as torch computes them. Of
files, where there is no module to ask, `checkpoints.folding` has the formulas.
"""

from __future__ import annotations

from typing import cast

from torch import nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm


def settle(module: nn.Module) -> None:
    """Computes such weights once and takes their hooks away, in place.

    Args:
        module: a network in evaluation mode.
    """
    for m in list(module.modules()):
        if parametrize.is_parametrized(m):
            _unparametrized(m)
        for hook in list(m._forward_pre_hooks.values()):
            if isinstance(hook, WeightNorm):
                remove_weight_norm(m, hook.name)
            elif isinstance(hook, SpectralNorm):
                remove_spectral_norm(m, hook.name)
            elif isinstance(hook, prune.BasePruningMethod):
                prune.remove(m, hook._tensor_name)  # type: ignore[no-untyped-call]


def _unparametrized(module: nn.Module) -> None:
    """As torch's `remove_parametrizations`, which takes them from all copies of a module."""
    names = list(cast("nn.ModuleDict", module.parametrizations))
    values = {name: getattr(module, name).detach().clone() for name in names}
    del module.parametrizations
    module.__class__ = parametrize.type_before_parametrizations(module)
    for name, value in values.items():
        module.register_parameter(name, nn.Parameter(value, requires_grad=False))
