"""Operators that torch computes in an order of its own, by their definitions: what C computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from irbin.emit.folds import FOLDS
from irbin.emit.letters import as_matrices, letters_of
from irbin.kernels import activations, tensor_reference
from irbin.kernels.steps import Floats
from irbin.runtime.arrays import as_array, as_tensor
from irbin.runtime.operators import Operation, operation

MATMUL = ("aten.matmul.default", "aten.bmm.default", "aten.mm.default")
SOFTMAX = "aten.softmax.int"
ATTENTION = "aten.scaled_dot_product_attention.default"

EINSUM = "aten.einsum.default"
POWER = "aten.pow.Tensor_Scalar"
EXACT = ("aten.amax.default", "aten.amin.default")
"""Operators among those defined here that give the same in any order."""


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


def _root(x: Floats) -> Floats:
    with np.errstate(all="ignore"):
        return np.sqrt(x).astype(np.float32, copy=False)


def _inverse_root(x: Floats) -> Floats:
    with np.errstate(all="ignore"):
        return (np.float32(1) / np.sqrt(x)).astype(np.float32, copy=False)


def _power(x: Any, exponent: Any) -> Any:
    """Roots as they are defined; other powers are torch's."""
    roots = {0.5: _root, -0.5: _inverse_root}
    if exponent not in roots:
        return operation(POWER)(x, exponent)
    return as_tensor(roots[exponent](as_array(x)))


def _by_letters(equation: str, tensors: Sequence[Any], **named: Any) -> Any:
    arrays = [as_array(one) for one in tensors]
    letters = letters_of(equation, [one.ndim for one in arrays]) if len(arrays) == 2 else None
    if letters is None:
        return operation(EINSUM)(equation, tensors, **named)
    sizes: dict[str, int] = {}
    for own, array in zip(letters, arrays, strict=False):
        sizes |= zip(own, array.shape, strict=True)
    made = np.empty([sizes[c] for c in letters.result], np.float32)
    a, b, to = as_matrices(letters, arrays[0], arrays[1], made)
    to[...] = tensor_reference.matmul(a, b)
    return as_tensor(made)


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
    "aten.sqrt.default": _of_tensors(_root),
    "aten.rsqrt.default": _of_tensors(_inverse_root),
    "aten.exp.default": _of_tensors(activations.exp),
    POWER: _power,
    EINSUM: _by_letters,
    **FOLDS,
}
"""What runs them, by operator."""
