"""Weights that a packed folder holds as signs though activations are floats (`1w32a`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from irbin.program.fused import Fused
from irbin.program.own import BitUnpack
from irbin.program.program import Program
from irbin.program.types import Ref
from irbin.program.windows import n_groups, pair
from irbin.runtime.arrays import as_array


class SignWeight(NamedTuple):
    """A weight that a packed folder holds as signs, of a layer whose activations are floats."""

    bits: NDArray[np.uint8]
    """(out_channels, kernel_height, kernel_width, ⌈in_channels / 8⌉)."""
    scale_log2: NDArray[np.int8] | None
    """(out_channels,), or None for 0."""
    in_channels: int
    """Of one group."""


def sign_weights(program: Program, tensors: Mapping[str, Any]) -> dict[str, SignWeight]:
    """The weights that a program unpacks, by the names of the floats that it makes of them."""
    weights: dict[str, SignWeight] = {}
    for node in program.nodes:
        own = BitUnpack.of(node) if node.op == "bitunpack" else None
        if own is not None and own.weight_bits.name in tensors:
            bits = _copied(own.weight_bits, tensors)
            scale = None if own.scale_log2 is None else _copied(own.scale_log2, tensors)
            weights[node.name] = SignWeight(bits, scale, own.in_channels)
    return weights


def takes_signs(item: Fused, weight: SignWeight) -> bool:
    """Whether tables are made of what it reads: of one group, taps of a row beside each other."""
    stride_padding_dilation = item.root.args[3:6]
    dilation = pair(stride_padding_dilation[2]) if len(stride_padding_dilation) > 2 else (1, 1)
    is_narrow = dilation is not None and dilation[1] == 1
    return weight.bits.ndim == 4 and n_groups(item.root) == 1 and is_narrow


def _copied(value: Ref, tensors: Mapping[str, Any]) -> NDArray[Any]:
    return np.array(as_array(tensors[value.name]), order="C")
