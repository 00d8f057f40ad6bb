"""Operators that torch computes in an order of its own, by their definitions: what C computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from irbin.kernels import tensor_reference
from irbin.runtime.arrays import as_array, as_tensor
from irbin.runtime.operators import Operation

MATMUL = ("aten.matmul.default", "aten.bmm.default", "aten.mm.default")
SOFTMAX = "aten.softmax.int"
ATTENTION = "aten.scaled_dot_product_attention.default"


def _softmax(x: Any, axis: int, dtype: object = None) -> Any:  # noqa: ARG001 - as torch's
    return tensor_reference.softmax(x, axis)


def _attention(
    queries: Any,
    keys: Any,
    values: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,  # noqa: ARG001 - as torch's
    is_causal: bool = False,  # noqa: ARG001 - as torch's
    scale: float | None = None,
    enable_gqa: bool = False,  # noqa: ARG001 - as torch's
) -> Any:
    return tensor_reference.attention(queries, keys, values, attn_mask, scale)


def _of_tensors(function: Callable[..., Any]) -> Operation:
    """A function of arrays as one of tensors, as torch's operators are."""

    def run(*values: Any, **named: Any) -> Any:
        arrays = {name: as_array(value) for name, value in named.items()}
        return as_tensor(function(*map(as_array, values), **arrays))

    return run


DEFINITIONS: Mapping[str, Operation] = {
    **dict.fromkeys(MATMUL, _of_tensors(tensor_reference.matmul)),
    SOFTMAX: _of_tensors(_softmax),
    ATTENTION: _of_tensors(_attention),
}
"""What runs them, by operator."""
