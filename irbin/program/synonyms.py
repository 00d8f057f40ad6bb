"""Operators that ATen computes by others, which a program names in their place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

_SELU = (1.6732632423543772848170429916717, 1.0507009873554804934193349852946)
"""α and scale of Klambauer et al., Self-normalizing neural networks (2017), as in ATen."""

Words = tuple[str, tuple[Any, ...]]


def _selu(x: Any) -> Words:
    return "aten.elu.default", (x, *_SELU, 1.0)


def _celu(x: Any, alpha: float) -> Words:
    return "aten.elu.default", (x, float(alpha), 1.0, 1 / float(alpha))


def _rrelu(x: Any, lower: float, upper: float, training: bool, generator: Any) -> Words:  # noqa: ARG001
    """The mean slope, in evaluation."""
    return "aten.leaky_relu.default", (x, (float(lower) + float(upper)) / 2)


def _padded_by_name(
    x: Any,
    weight: Any,
    bias: Any,
    stride: Sequence[int],
    padding: str,
    dilation: Sequence[int],
    groups: int,
) -> Words | None:
    """`same` and `valid` in numbers; None where `same` is more behind the image than in front."""
    sizes = weight.meta["val"].shape[2:]
    reach = [by * (size - 1) for by, size in zip(dilation, sizes, strict=True)]
    if padding == "same" and any(room % 2 for room in reach):
        return None
    around = [room // 2 if padding == "same" else 0 for room in reach]
    return "aten.conv2d.default", (x, weight, bias, stride, around, dilation, groups)


_WORDS: Mapping[str, Callable[..., Words | None]] = {
    "aten.selu.default": _selu,
    "aten.celu.default": _celu,
    "aten.rrelu.default": _rrelu,
    "aten.conv2d.padding": _padded_by_name,
}


def _threshold(x: Tensor, threshold: float, value: float) -> Tensor:
    return torch.where(x <= threshold, value, x)  # NaN stays, as in ATen


def _rrelu_in_place(
    x: Tensor,
    noise: Tensor,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    generator: object = None,  # noqa: ARG001
) -> Any:
    """What `F.rrelu_` is once it writes to nothing; its noise is for training alone."""
    if training:
        return NotImplemented
    return torch.nn.functional.leaky_relu(x, (lower + upper) / 2), noise


IN_PARTS: Mapping[Any, Callable[..., Any]] = {
    torch.ops.aten.threshold.default: _threshold,
    torch.ops.aten.rrelu_with_noise_functional.default: _rrelu_in_place,
}
"""Operators that take several of a program's, for `run_decompositions`."""


def in_other_words(name: str, node: fx.Node) -> Words | None:
    """The operator that computes what `node` does, and its arguments; None if it has no other."""
    if name not in _WORDS:
        return None
    return _WORDS[name](*_arguments(node))


def _arguments(node: fx.Node) -> Sequence[Any]:
    """All arguments in the schema's order, defaults included."""
    schema = node.target._schema  # type: ignore[union-attr]
    given = dict(zip((a.name for a in schema.arguments), node.args, strict=False)) | node.kwargs
    return [given.get(a.name, a.default_value) for a in schema.arguments]
