"""The rectified clamp: weights that stand far out are let go (ReCU, Xu et al., ICCV 2021, §3.3).

A latent weight in the tail of its filter seldom changes sign. ReCU clamps the weights to two of
their quantiles before the sign: the signs stay, and the tails get no gradient of their own, so that
only standardization, which shrinks them with the rest, moves them. τ grows during training as in
the authors' code. Two departures from it: the quantile is each filter's, not the layer's, and the
scale is that of the weights before the clamp, so a trained network computes the same without it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def tau_at(progress: float, tau_min: float, tau_max: float) -> float:
    """τ = τ_min + (τ_max − τ_min)·(e^progress − 1)/(e − 1).

    The authors' `cpt_tau` (github.com/z-hXu/ReCU, cifar/main.py), there moved once an epoch.

    Args:
        progress: 0 to 1.
        tau_min: τ at progress 0; theirs is 0.85.
        tau_max: τ at progress 1; theirs is 0.99.
    """
    return tau_min + (tau_max - tau_min) * math.expm1(progress) / math.expm1(1.0)


def recu_bound(source: Tensor, tau: Tensor) -> Tensor:
    """Q(τ) = −mean|w|·ln(2 − 2τ) per filter: the quantile of a Laplace distribution around 0.

    Args:
        source: what the sign will be taken of, (out_channels, ...).
        tau: scalar tensor, above ½ and below 1.

    Returns:
        Detached, ≥ 0; (out_channels, 1, …); Q(1 − τ) is its negative.
    """
    axes = tuple(range(1, source.dim()))
    mean_abs = source.detach().abs().mean(axes, keepdim=True)
    return mean_abs * -torch.log(2 - 2 * tau)


def recu(source: Tensor, tau: Tensor) -> Tensor:
    """The weights clamped to [Q(1 − τ), Q(τ)] of their filter.

    Forward:   y = max(min(w, Q(τ)), −Q(τ)); no sign changes
    Backward:  dL/dw = dL/dy · [|w| ≤ Q(τ)]

    Args:
        source: (out_channels, ...).
        tau: scalar tensor.

    Returns:
        The same shape.
    """
    bound = recu_bound(source, tau)
    return source.clamp(-bound, bound)
