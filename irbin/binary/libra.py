"""The forward half: a latent weight becomes signs and one scale per output channel.

Libra-PB (IR-Net, Qin et al., CVPR 2020, §3.2) balances, standardizes and scales by a power of two.
Two departures from the authors' code: an epsilon keeps a constant filter from becoming NaN, and
sign(0) is +1 instead of 0, which no bit can hold. `plain` is the baseline of the paper's ablation.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

EPSILON = 1e-7
"""Added to a filter's standard deviation. Latent weights are of order 1e-2, so it moves nothing but
filters that are constant up to rounding, and keeps their gradients finite."""

MIN_SCALE_LOG2 = -126
"""Smallest exponent that int8 and a normal float32 both hold; mean |ŵ| of a zero filter would
give −∞."""


def standardize(weight: Tensor, *, by_median: bool = False) -> Tensor:
    """Balance and standardize: ŵ = (w − mean(w)) / (std(w) + ε), per output channel.

    The standard deviation is the unbiased one (n − 1), as in the authors' code; a filter of one
    weight has none and keeps its sign: it is scaled to 1, not balanced (balancing gives zero).

    Args:
        weight: (out_channels, ...), floating.
        by_median: subtract the median in place of the mean: half of the signs are then −1, also
            where a filter is skewed (SiMaN, Lin et al., TPAMI 2022, has half of them by another
            way). The standard deviation stays that about the mean. The gradient takes the distance
            from mean to median for a constant: it would otherwise fall on the one weight that
            happens to be the median.

    Returns:
        The same shape. Differentiable; the gradient of each filter sums to zero and, by the mean,
        is orthogonal to w − mean(w) up to ε.
    """
    axes, n_weights = _filter_axes(weight), weight.shape[1:].numel()
    if n_weights == 1:
        return weight / (weight.detach().abs() + EPSILON)
    balanced = weight - weight.mean(axes, keepdim=True)
    spread = balanced.square().sum(axes, keepdim=True) / (n_weights - 1)
    # sqrt has an infinite slope at 0: a constant filter would get NaN gradients through it
    std = torch.where(spread > 0, spread, torch.ones_like(spread)).sqrt()
    std = torch.where(spread > 0, std, torch.zeros_like(std))
    if by_median:
        balanced = balanced - _upper_median(balanced.detach())
    return balanced / (std + EPSILON)


def _upper_median(weight: Tensor) -> Tensor:
    """The middle value of each filter, of two the upper one; (out_channels, 1, …).

    As sign(0) is +1, as many weights then get −1 as +1 where a filter has an even number (one more
    +1 where it is odd), unless several are the median. Between the two middle values rounding could
    decide, at the lower one the filter would be off by one.
    """
    filters = weight.flatten(1)
    middle = filters.kthvalue(filters.shape[1] // 2 + 1, dim=1).values
    return middle.view(-1, *[1] * (weight.dim() - 1))


def power_of_two_exponent(standardized: Tensor) -> Tensor:
    """s = round(log2(mean |ŵ|)) per output channel (IR-Net, eq. 8).

    Args:
        standardized: ŵ, (out_channels, ...).

    Returns:
        Detached float tensor of whole numbers, (out_channels,), −126 or more; at most 0 for a
        standardized weight.
    """
    mean_abs = standardized.detach().abs().mean(_filter_axes(standardized))
    return mean_abs.clamp_min(2.0**MIN_SCALE_LOG2).log2().round()


def _power_of_two(exponent: Tensor) -> Tensor:
    """2^s; `torch.onnx.export(…, dynamo=False)` has no `exp2`."""
    if torch.onnx.is_in_onnx_export():
        return torch.pow(torch.full_like(exponent, 2.0), exponent)
    return exponent.exp2()


def libra(weight: Tensor, *, by_median: bool = False) -> tuple[Tensor, Tensor]:
    """Libra-PB: what the sign is taken of, and the scale 2^s.

    Args:
        weight: latent weight, (out_channels, ...).
        by_median: see `standardize`.

    Returns:
        ŵ of the same shape, and the detached scale, (out_channels,), a power of two.
    """
    standardized = standardize(weight, by_median=by_median)
    return standardized, _power_of_two(power_of_two_exponent(standardized))


def libra_latent(weight: Tensor, *, by_median: bool = False) -> tuple[Tensor, Tensor]:
    """Libra-PB's signs, scaled to the latent weight's own size: 2^round(log2(mean |w − w̄|)).

    For layers whose output no norm rescales (transformers, networks without batch norm): there the
    size of standardized weights, near 1, would drown the residual stream. Ours, not the paper's,
    whose layers all stand before a batch norm.

    Args:
        weight: latent weight, (out_channels, ...).
        by_median: see `standardize`; w̄ is then the median.

    Returns:
        ŵ of the same shape, and the detached scale, (out_channels,), a power of two.
    """
    centred = weight.detach()
    if centred.shape[1:].numel() > 1:
        mean = centred.mean(_filter_axes(weight), keepdim=True)
        centred = centred - (_upper_median(centred) if by_median else mean)
    return standardize(weight, by_median=by_median), _power_of_two(power_of_two_exponent(centred))


def plain(weight: Tensor) -> tuple[Tensor, Tensor]:
    """The plain binarizer: sign of w, scale mean |w| (XNOR-Net, Rastegari et al., ECCV 2016, §3.1).

    Args:
        weight: latent weight, (out_channels, ...).

    Returns:
        w itself, and the detached scale, (out_channels,), any positive float32.
    """
    return weight, weight.detach().abs().mean(_filter_axes(weight))


def _filter_axes(weight: Tensor) -> tuple[int, ...]:
    """All axes but the output channels.

    Reducing over them, not over a flattened filter, reads a channels-last weight in the order in
    which it lies: a fifth of the time where the network is compiled.
    """
    return tuple(range(1, weight.dim()))


Binarizer = Callable[[Tensor], tuple[Tensor, Tensor]]

BINARIZERS: dict[str, Binarizer] = {
    "libra": libra,
    "libra-latent": libra_latent,
    "libra-median": partial(libra, by_median=True),
    "libra-latent-median": partial(libra_latent, by_median=True),
    "plain": plain,
}
"""By name; users choose `libra` or `plain` and the kind of balance, and the plan chooses where
`libra` keeps the latent size."""
