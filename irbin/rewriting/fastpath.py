"""torch's fast paths, which compute a whole module from its layers' weights, past the layers.

In evaluation without gradients `nn.TransformerEncoderLayer` hands `linear1.weight` to one fused
function, so the network would answer with float weights wherever irbin looks: evaluation,
calibration, the choice of the best epoch. Whatever else does so is found by `checks.py`.
"""

from __future__ import annotations

from torch import nn

from irbin.binary.layers import BinaryLayer


def leave_fast_paths(module: nn.Module) -> None:
    """Makes every transformer layer that holds binary layers call them in every mode; in place."""
    for part in module.modules():
        if isinstance(part, nn.TransformerEncoderLayer) and _holds_binary(part):
            # torch's own mark for an activation that its fused function does not have
            part.activation_relu_or_gelu = 0
        elif isinstance(part, nn.TransformerEncoder) and _holds_binary(part):
            part.use_nested_tensor = False  # which only the fast path understands


def _holds_binary(module: nn.Module) -> bool:
    return any(isinstance(m, BinaryLayer) for m in module.modules())
