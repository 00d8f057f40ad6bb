"""What several tests of the tracing look at."""

from __future__ import annotations

import timm.layers.activations as timm_activations
from torch import nn

LOSING = {
    "gelu": nn.GELU(),
    "gelu tanh": nn.GELU("tanh"),
    "silu": nn.SiLU(),
    "silu in place": nn.SiLU(inplace=True),
    "mish": nn.Mish(),
    "hardswish": nn.Hardswish(),
    "softshrink": nn.Softshrink(),
    "timm swish": timm_activations.Swish(),
    "timm gelu": timm_activations.GELU(),
    "timm quick gelu": timm_activations.QuickGELU(),
    "timm hard mish": timm_activations.HardMish(),
    "tanhshrink": nn.Tanhshrink(),
}
"""Activations that round a small negative number to zero or to the other side, by name."""
