"""Reparameterizing: blocks trained with several branches are fused into one layer each.

RepVGG (Ding et al., CVPR 2021), MobileOne and their like come with `fuse`, `reparameterize` or
`switch_to_deploy`. Before binarizing these are exact; afterwards they would replace binary layers
by float ones without a word, so a converted network refuses them.
"""

from __future__ import annotations

import torch
from timm.utils import reparameterize_model
from torch import Tensor, nn

from irbin.binary.layers import BinaryLayer
from irbin.errors import ConvertError, SourceError
from irbin.tracing.tracer import LAYERS, untouched

METHODS = ("fuse", "reparameterize", "switch_to_deploy")
"""What timm calls on a module to fuse it."""

_RTOL, _ATOL = 1e-3, 1e-4
"""Between the two forms of a network, relative to its largest answer: sums in another order."""


def n_fusable(module: nn.Module) -> int:
    """How many layers fusing would save: multi-branch blocks give several for one."""
    if not any(_methods(m) for m in module.modules()):
        return 0
    with untouched(module):
        return _n_layers(module) - _n_layers(reparameterize_model(module.eval()))


def reparameterize(module: nn.Module, name: str) -> nn.Module:
    """A copy of a float network with every block that can be fused fused.

    Args:
        module: the network; left alone.
        name: of the network, for the message.

    Raises:
        SourceError: it has nothing to fuse.
    """
    if not any(_methods(m) for m in module.modules()):
        raise SourceError(
            f"`reparameterize=True`: `{name}` has no blocks that can be fused; leave it out"
        )
    with untouched(module):
        fused: nn.Module = reparameterize_model(module.eval())
    return fused.train(module.training)


def check_fused(
    module: nn.Module, fused: nn.Module, input_size: tuple[int, int, int], name: str
) -> None:
    """Holds both forms of a network against each other on random images of `input_size`.

    Raises:
        SourceError: they answer differently.
    """
    x = torch.randn(2, *input_size, generator=torch.Generator().manual_seed(0))
    with untouched(module), untouched(fused), torch.no_grad():
        expected, got = _first(module.eval()(x)), _first(fused.eval()(x))
    difference = (expected - got).abs().max().item()
    if not difference <= _ATOL + _RTOL * expected.abs().max().item():
        raise SourceError(
            f"`reparameterize=True`: `{name}` answers differently after fusing (by "
            f"{difference:.2g}); leave it out"
        )


def refuse_fusing(module: nn.Module) -> None:
    """Makes every module that holds a binary layer refuse to be fused, in place."""
    for path, m in module.named_modules():
        if any(isinstance(inner, BinaryLayer) for inner in m.modules()):
            for method in _methods(m):
                setattr(m, method, Refusal(method, path))


class Refusal:
    """Stands in for a method that would discard binary layers; final.

    Args:
        method: its name.
        path: of the module that has it.
    """

    def __init__(self, method: str, path: str) -> None:
        self.method, self.path = method, path

    def __call__(self, *args: object, **kwargs: object) -> None:  # noqa: ARG002 - any call is refused
        """Raises ConvertError."""
        raise ConvertError(
            f"`{self.path}.{self.method}()` would replace binary layers by float ones; fuse before "
            "binarizing: `irbin.convert(reparameterize=True)`"
        )


def _methods(module: nn.Module) -> list[str]:
    return [name for name in METHODS if callable(getattr(module, name, None))]


def _n_layers(module: nn.Module) -> int:
    return sum(isinstance(m, LAYERS) for m in module.modules())


def _first(value: object) -> Tensor:
    """The first tensor of what a network returns."""
    while not isinstance(value, Tensor):
        value = next(iter(value.values() if isinstance(value, dict) else value))  # type: ignore[call-overload]
    return value
