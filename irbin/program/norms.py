"""Which norms of an image's own numbers are for our kernels: layer, RMS and group norms."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from irbin.program.types import Node, Ref, TensorType, Types, Value

LAYER_NORM = "aten.layer_norm.default"
GROUP_NORM = "aten.group_norm.default"
RMS_NORM = "aten.rms_norm.default"
FLOAT_EPSILON = 2.0**-23
"""What torch's RMS norm adds where nothing is said."""


class Norm(NamedTuple):
    """A norm's settings."""

    n_groups: int
    """Of a group norm; 0 of a layer norm."""
    epsilon: float
    """Added to the variance."""
    weight: str | None
    """Name of the factors, one a channel."""
    bias: str | None
    """Name of the offsets, one a channel."""
    is_centered: bool = True
    """The mean is taken away first; not by an RMS norm."""


def norm_of(node: Node, types: Types, constants: Collection[str]) -> Norm | None:
    """The norm that a node is, or None if it is left to torch.

    Left to torch: other types than float32, layer and RMS norms over other axes than the last,
    group norms of other than images (batch, channels, height, width), factors that are computed.
    """
    if node.op not in (LAYER_NORM, GROUP_NORM, RMS_NORM) or node.kwargs or len(node.args) < 2:
        return None
    defaults: tuple[Value, ...] = (None, None, 1e-5, True)
    source, shape, *rest = node.args
    if node.op == RMS_NORM:  # (weight, epsilon)
        weight, given = (*rest, None, None)[:2]
        rest = [weight, None, FLOAT_EPSILON if given is None else given]
    weight, bias, epsilon, _ = (*rest, *defaults[len(rest) :])
    kind = types[source.name] if isinstance(source, Ref) else None
    if not isinstance(kind, TensorType) or kind.dtype != "float32" or node.type != kind:
        return None
    if node.op != GROUP_NORM:
        n_channels, fits = kind.shape[-1:], shape == kind.shape[-1:] and len(kind.shape) > 1
        n_groups = 0
    else:
        n_channels, n_groups = kind.shape[1:2], shape if isinstance(shape, int) else 0
        fits = len(kind.shape) == 4 and n_groups > 0
        fits = fits and all(isinstance(n, int) and n > 0 for n in kind.shape[1:])
        fits = fits and int(kind.shape[1]) % n_groups == 0
    if not fits or not isinstance(n_channels[0], int) or n_channels[0] < 1:
        return None
    vector = TensorType("float32", n_channels)
    for learned in (weight, bias):
        is_vector = isinstance(learned, Ref) and learned.name in constants
        if learned is not None and not (is_vector and types[learned.name] == vector):  # type: ignore[union-attr]  # a reference
            return None
    if isinstance(epsilon, bool) or not isinstance(epsilon, int | float) or not epsilon >= 0:
        return None
    names = [one.name if isinstance(one, Ref) else None for one in (weight, bias)]
    return Norm(n_groups, float(epsilon), names[0], names[1], node.op != RMS_NORM)
