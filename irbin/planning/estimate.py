"""What a plan gains, estimated before anyone trains: seconds of the float and the packed network.

A layer costs a constant and so much for each multiply-add, weight, input and output. The prices
were fitted once, to single layers of sixteen networks on the machine of `docs/performance.md`,
which also says how near the estimates come. Nothing here knows torch.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from typing import Literal, NamedTuple

from irbin.planning.advice import advice, verdict
from irbin.records.kinds import SHORTCUTS
from irbin.records.plan import Bits, Decision, Estimate, LayerRecord, Plan

Kind = Literal["dense", "pointwise", "grouped", "depthwise", "linear"]
"""What prices differ by: a convolution with a window, of 1×1, with groups …"""

WORD = 64
"""Bits that the kernels count at once: fewer input channels cost as much."""


class Price(NamedTuple):
    """What a layer costs on one thread at batch 1."""

    constant_us: float
    """Calling it."""
    gmacs: float
    """10⁹ multiply-adds a second."""
    weight_ns: float = 0.0
    """For each weight: reading it, and what torch does to it at every call."""
    input_ns: float = 0.0
    """For each number it reads."""
    output_ns: float = 0.0
    """For each number it writes."""


TORCH: dict[Kind, Price] = {
    "dense": Price(20, 55, 0.6, 0.2, 0.3),
    "pointwise": Price(20, 55, 0.6, 0.2, 0.3),
    "grouped": Price(20, 100, 1.2, 1.2, 0.4),
    "depthwise": Price(60, 45, 0.0, 0.2, 0.0),
    "linear": Price(10, 46, 0.2, 0.05, 0.4),
}
"""A float layer that torch computes."""

FLOAT: dict[Kind, Price] = {
    **TORCH,
    "dense": Price(3, 57, 0.12, 0.0, 0.45),
    "pointwise": Price(3, 57, 0.12, 0.0, 0.45),
    "depthwise": Price(1, 51, 0.0, 0.15, 0.22),
    "linear": Price(3, 60, 0.2, 0.0, 0.0),
}
"""A float layer of a packed network, with the norm and the activation behind it."""

BYTES = Price(3, 95, 0.0, 0.26, 0.17)
"""The first convolution, of images as bytes."""

SIGNS = Price(3, 125, 0.0, 0.0, 0.1)
"""A binary convolution at `1w32a`."""

BINARY: dict[Kind, Price] = {
    "dense": Price(1, 1180, 0.006, 0.03, 0.07),
    "pointwise": Price(1, 1250, 0.013, 0.0, 0.2),
    "grouped": Price(9, 1200, 0.01, 0.15, 0.05),
    "depthwise": Price(9, 1200, 0.01, 0.15, 0.05),
    "linear": Price(8, 1300, 0.0, 0.0, 0.1),
}
"""A binary layer, with the norm, the residual and the activation behind it; its multiply-adds
count in whole words."""

GROUP_NS = 18.0
"""For each group of a binary layer at each output pixel."""

TAIL_NS = 17.0
"""For each group at each input pixel where a group's channels do not fill bytes."""

BETWEEN = Price(50, math.inf, output_ns=0.65)
"""Behind a layer of the float network: norm, activation, addition, all by torch."""

UNFUSED_NS = 0.4
"""For each input of a layer of the packed network with something in front of it that is a pass of
its own: layer norm, GELU, scales of channels."""

TORCH_PRODUCT_GMACS, PRODUCT_GMACS = 29.0, 35.0
"""Products of activations, 10⁹ multiply-adds a second, in the float and the packed network."""

MEAN_NS, PAD_NS = 0.1, 0.1
"""An added shortcut to fewer channels, for each input; to more, for each output."""

SUM_NS = 0.1
"""For each output of a binary 1×1 convolution, adding the added shortcut; behind a larger window
memory is faster than counting, and it costs nothing."""


def estimate(plan: Plan) -> Estimate:
    """What binarizing as planned gains in speed and size, and in words whether it is worth it.

    Args:
        plan: of any network, also a converted one's.
    """
    layers = [d.layer for d in plan.decisions]
    n_bytes = sum(d.float_bytes for d in plan.decisions if d.binary)
    parts = _packed_parts(plan)
    gains = Estimate(
        float_seconds=sum(map(_torch_seconds, layers))
        + _product_seconds(plan, TORCH_PRODUCT_GMACS),
        packed_seconds=sum(parts.values()),
        packed_parts=parts,
        binary_macs=_share(plan.binary_macs, plan.n_macs),
        binary_bytes=_share(n_bytes, plan.float_bytes),
        shrinkage=plan.float_bytes / max(plan.packed_bytes(), 1),
    )
    return replace(gains, verdict=verdict(gains, plan), advice=advice(gains, plan))


def estimate_layer(layer: LayerRecord, binary: bool, bits: Bits) -> float:
    """Seconds of one layer in the packed network, with what is computed with it.

    Args:
        layer: the facts of it; one that never runs takes no time.
        binary: whether it is binarized.
        bits: at `1w32a` a binary convolution in one group looks sums up, and other binary layers
            compute as float ones.
    """
    if not layer.n_macs:
        return 0.0
    kind = _kind(layer)
    if not binary or bits == "1w32a":
        price = FLOAT[kind]
        if kind in ("dense", "pointwise"):
            price = SIGNS if binary else BYTES if layer.is_first else price
        return _cost(price, layer, layer.n_macs)
    depth = layer.weight_shape[1] if len(layer.weight_shape) > 1 else 1
    n_macs = layer.n_macs / depth * math.ceil(depth / WORD) * WORD
    return _cost(BINARY[kind], layer, n_macs) + _packing_seconds(layer, depth)


def _packing_seconds(layer: LayerRecord, depth: int) -> float:
    """What a binary layer takes besides for its groups."""
    nanoseconds = 0.0
    if layer.groups > 1:
        nanoseconds += GROUP_NS * layer.groups * math.prod(layer.output_shape[1:])
        if depth % 8:
            nanoseconds += TAIL_NS * layer.groups * math.prod(layer.input_shape[1:])
    return 1e-9 * nanoseconds


def _kind(layer: LayerRecord) -> Kind:
    if layer.is_depthwise:
        return "depthwise"
    if layer.groups > 1:
        return "grouped"
    if len(layer.weight_shape) < 3:
        return "linear"
    return "pointwise" if math.prod(layer.weight_shape[2:]) == 1 else "dense"


def _cost(price: Price, layer: LayerRecord, n_macs: float) -> float:
    nanoseconds = (
        1e3 * price.constant_us
        + n_macs / price.gmacs
        + price.weight_ns * math.prod(layer.weight_shape)
        + price.input_ns * math.prod(layer.input_shape)
        + price.output_ns * math.prod(layer.output_shape)
    )
    return 1e-9 * nanoseconds


def _torch_seconds(layer: LayerRecord) -> float:
    """In the float network, with what stands behind it."""
    if not layer.n_macs:
        return 0.0
    return _cost(TORCH[_kind(layer)], layer, layer.n_macs) + _cost(BETWEEN, layer, 0)


def _packed_parts(plan: Plan) -> dict[str, float]:
    """Seconds of the packed network by what takes them."""
    parts: defaultdict[str, float] = defaultdict(float)
    bits, n_sums = plan.options.bits, SHORTCUTS[plan.options.shortcut].n_sums
    for d in plan.decisions:
        seconds = estimate_layer(d.layer, d.binary, bits)
        parts[_what(d)] += seconds
        if not d.layer.activations and not d.layer.is_first and d.layer.n_macs:
            unfused = 1e-9 * UNFUSED_NS * math.prod(d.layer.input_shape)
            parts["norms and activations on their own"] += unfused
        if n_sums and d.binary:
            parts["added shortcuts"] += n_sums * _shortcut_seconds(d.layer)
    parts["products of activations"] = _product_seconds(plan, PRODUCT_GMACS)
    longest_first = sorted(parts.items(), key=lambda part: -part[1])
    return {what: seconds for what, seconds in longest_first if seconds}


def _what(decision: Decision) -> str:
    kind = "depthwise convolutions" if decision.layer.is_depthwise else "layers"
    return f"binary {kind}" if decision.binary else f"float {kind}"


def _shortcut_seconds(layer: LayerRecord) -> float:
    """Of the shortcut without parameters that `bireal` adds round a binary convolution."""
    if layer.kind != "conv2d" or layer.is_shortcut or not layer.n_macs:
        return 0.0
    (n_in, *_), (n_out, *_) = layer.input_shape, layer.output_shape
    n_outputs = math.prod(layer.output_shape)
    nanoseconds = SUM_NS * n_outputs if _kind(layer) == "pointwise" else 0.0
    if n_in > n_out:
        nanoseconds += MEAN_NS * math.prod(layer.input_shape)
    elif n_in < n_out:
        nanoseconds += PAD_NS * n_outputs
    return 1e-9 * nanoseconds


def _product_seconds(plan: Plan, gmacs: float) -> float:
    return 1e-9 * plan.other_macs / gmacs


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
