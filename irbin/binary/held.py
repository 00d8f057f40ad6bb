"""Steps of several batches compute a binary weight once: `held_weights`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from irbin.binary.layers import Used, binary_layers


@contextmanager
def held_weights(network: nn.Module) -> Iterator[None]:
    """Within, a layer's weight is computed once, however many forward and backward passes follow.

    For steps of several batches. The gradients of the binary weights gather meanwhile and go on to
    the latent weights on the way out; the sum is that of separate passes up to rounding.
    """
    layers = list(binary_layers(network).values())
    computed = [layer.used() for layer in layers]
    for layer, used in zip(layers, computed, strict=True):
        layer.held = Used(*map(_leaf, used))
    try:
        yield
        pairs = [
            (tensor, leaf.grad)
            for layer, used in zip(layers, computed, strict=True)
            for tensor, leaf in zip(used, layer.held or (), strict=True)
            if tensor is not None and leaf is not None and leaf.grad is not None
        ]
        if pairs:
            torch.autograd.backward([t for t, _ in pairs], [grad for _, grad in pairs])
    finally:
        for layer in layers:
            layer.held = None


def _leaf(tensor: Tensor | None) -> Any:
    """`tensor` where gradients stop and gather."""
    return None if tensor is None else tensor.detach().requires_grad_(tensor.requires_grad)
