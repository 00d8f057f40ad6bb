"""What one batch shows of a network's binary layers: their inputs, and the norms behind them."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from irbin.binary.anneal import EdePhase
from irbin.binary.layers import BinaryLayer, BinaryLinear, binary_layers
from irbin.evaluation.modes import autocast
from irbin.records.kinds import ESTIMATORS

USABLE_GRADIENT = 0.1
"""A gradient is usable where the estimator lets through at least this factor of it."""

DEAD = 0.01
"""A channel is dead where this share of its signs, or less, differ from the others."""


def probe(module: nn.Module, images: Tensor, amp: str | None) -> dict[str, dict[str, float]]:
    """Runs a network in evaluation mode; modes, buffers, hooks, random state return as they came.

    Args:
        module: the network, not the compiled one.
        images: (batch, channels, height, width), on the network's device.
        amp: autocast's type.

    Returns:
        By binary layer, in module order, then by figure (a name of `LayerDiagnostics`): the mean
        over the layer's calls. A figure that no call shows is left out.
    """
    layers = binary_layers(module)
    calls: dict[str, list[dict[str, float]]] = {name: [] for name in layers}
    outputs: list[tuple[str, weakref.ref[Tensor]]] = []

    def before(name: str) -> Callable[..., None]:
        def note(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            assert isinstance(layer, BinaryLayer)
            (x,) = (*args, *kwargs.values())
            binary = layer.method.binary_activations and layer.phase.binary_activations
            calls[name].append(_activation_figures(layer, layer.shifted(x)) if binary else {})

        return note

    def after(name: str) -> Callable[..., None]:
        def note(_layer: nn.Module, _args: tuple[Any, ...], output: Tensor) -> None:
            outputs.append((name, weakref.ref(output)))

        return note

    def at_norm(norm: nn.Module, args: tuple[Any, ...]) -> None:
        assert isinstance(norm, _BatchNorm)
        x: Tensor = args[0]
        for name, output in outputs:
            if output() is x:
                calls[name].append({"statistics_gap": _statistics_gap(norm, x)})

    hooks: list[RemovableHandle] = []
    try:
        for name, layer in layers.items():
            hooks.append(layer.register_forward_pre_hook(before(name), with_kwargs=True))
            hooks.append(layer.register_forward_hook(after(name)))
        for part in module.modules():
            if isinstance(part, _BatchNorm) and part.running_mean is not None:
                hooks.append(part.register_forward_pre_hook(at_norm))
        with _evaluating(module, images.device), torch.no_grad(), autocast(images.device, amp):
            module(images)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: _mean_figures(figures) for name, figures in calls.items()}


def usable_radius(estimator: str, phase: EdePhase) -> float:
    """The |x| up to which an estimator of that name lets through `USABLE_GRADIENT` or more."""
    return ESTIMATORS[estimator].usable_radius(USABLE_GRADIENT, float(phase.t), float(phase.k))


def entropy(p: Tensor) -> Tensor:
    """H(p) = −p·log2 p − (1 − p)·log2(1 − p), bits, elementwise."""
    nats: Tensor = torch.special.entr(p) + torch.special.entr(1 - p)
    return nats / math.log(2)


def share(mask: Tensor) -> float:
    """Share of a mask that is true."""
    return int(mask.count_nonzero()) / mask.numel()  # half the time of a mean


def _activation_figures(layer: BinaryLayer, x: Tensor) -> dict[str, float]:
    """Of what the sign is taken of, (batch, channels, height, width) or (..., features)."""
    channel = x.dim() - 1 if isinstance(layer, BinaryLinear) else x.dim() - 3
    others = [axis for axis in range(x.dim()) if axis != channel]
    share_negative = (x < 0).mean(dim=others, dtype=torch.float32)  # (channels,)
    radius = usable_radius(layer.method.estimator, layer.phase)
    spread = layer.inverse_spread(x)
    distance = x.abs() if spread is None else x.abs() * spread
    return {
        "activation_entropy": float(entropy(share_negative).mean()),
        "dead_channels": share((share_negative <= DEAD) | (share_negative >= 1 - DEAD)),
        "activation_gradient": share(distance <= radius),
    }


def _statistics_gap(norm: _BatchNorm, x: Tensor) -> float:
    mean = x.mean(dim=[axis for axis in range(x.dim()) if axis != 1], dtype=torch.float32)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return float(((mean - norm.running_mean).abs() / (norm.running_var + norm.eps).sqrt()).mean())


@contextmanager
def _evaluating(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Within, `module` is in evaluation mode; every part's mode and torch's random state return."""
    modes = [(part, part.training) for part in module.modules()]
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        module.eval()
        try:
            yield
        finally:
            for part, training in modes:
                part.training = training


def _mean_figures(calls: list[dict[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for call in calls for name in call)
    return {name: fmean(call[name] for call in calls if name in call) for name in names}
