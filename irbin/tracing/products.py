"""Multiply-adds of products between activations, as in attention, which no layer counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def product_macs(function: str, operands: Sequence[Tensor], out: object, equation: object) -> int:
    """Multiply-adds of one call of a torch function; 0 for one that multiplies no matrices.

    Counted are `matmul` and kin, `einsum`, and both products of an attention.

    Args:
        function: its name, as `Recorder` sees it.
        operands: the tensors among its arguments, in order.
        out: what it returned.
        equation: its first argument, which says what `einsum` sums over.
    """
    if function == "einsum" and isinstance(equation, str) and isinstance(out, Tensor):
        return out.numel() * _summed(equation, operands)
    count = _PRODUCTS.get(function)
    if count is None or len(operands) < 2:
        return 0
    return count(operands)


def _matmul(operands: Sequence[Tensor]) -> int:
    """(…, rows, depth) times (…, depth, columns), or a vector in place of either."""
    left, right = operands[-2:]  # in front of them may stand what is added
    leading = _broadcast(left.shape[:-2], right.shape[:-2])
    rows = left.shape[-2] if left.dim() > 1 else 1
    columns = right.shape[-1] if right.dim() > 1 else 1
    return int(leading * rows * left.shape[-1] * columns)


def _attention(operands: Sequence[Tensor]) -> int:
    """Queries (…, length, features) on keys (…, keys, features), then on values."""
    query, key = operands[:2]
    value = operands[2] if len(operands) > 2 else key
    leading = _broadcast(query.shape[:-2], key.shape[:-2])
    return int(leading * query.shape[-2] * key.shape[-2] * (query.shape[-1] + value.shape[-1]))


def _broadcast(left: Sequence[int], right: Sequence[int]) -> int:
    """How many matrices two batches of them make, each of which may be spread over the other's."""
    shape = torch.broadcast_shapes(tuple(left), tuple(right))  # type: ignore[no-untyped-call]
    return math.prod(shape)


def _multi_head(operands: Sequence[Tensor]) -> int:
    """Queries and keys (length, batch, features), as `nn.MultiheadAttention` hands them on."""
    query, key = operands[:2]
    return 2 * query.numel() * int(key.shape[0])


def _summed(equation: str, operands: Sequence[Tensor]) -> int:
    """How many products an `einsum` adds for one number of its result."""
    inputs, arrow, result = equation.replace(" ", "").partition("->")
    if not arrow or len(operands) < 2:
        return 0  # the short form, or a rearrangement of one tensor
    sizes: dict[str, int] = {}
    for term, operand in zip(inputs.split(","), operands, strict=True):
        before, _, after = term.partition("...")
        pairs = [
            *zip(before, operand.shape, strict=False),
            *zip(reversed(after), reversed(operand.shape), strict=False),
        ]
        for letter, size in pairs:
            sizes[letter] = max(size, sizes.get(letter, 1))  # one of size 1 is spread
    return math.prod(size for letter, size in sizes.items() if letter not in result)


_PRODUCTS: dict[str, Callable[[Sequence[Tensor]], int]] = {
    "matmul": _matmul,
    "__matmul__": _matmul,
    "__rmatmul__": _matmul,
    "bmm": _matmul,
    "mm": _matmul,
    "baddbmm": _matmul,
    "scaled_dot_product_attention": _attention,
    "multi_head_attention_forward": _multi_head,
}
