"""What runs each operator of the vocabulary: torch for ATen's, the kernels for irbin's.

Looked up by name in the closed list only; nothing in a file can name another function.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from irbin.errors import ArtifactError
from irbin.kernels import ops, reference
from irbin.program.claims import INTEGERS
from irbin.program.types import Dtype
from irbin.program.vocabulary import signatures
from irbin.runtime.threads import kernel_threads

Operation = Callable[..., Any]


def bitpack(x: Tensor, channel_axis: int, groups: int) -> Tensor:
    """`kernels.ops.bitpack` on tensors."""
    return torch.from_numpy(ops.bitpack(x.numpy(), channel_axis, groups, kernel_threads()))


def bitunpack(weight_bits: Tensor, scale_log2: Tensor | None, in_channels: int) -> Tensor:
    """`kernels.reference.bitunpack` on tensors."""
    return torch.from_numpy(
        reference.bitunpack(weight_bits.numpy(), _array(scale_log2), in_channels)
    )


def _array(tensor: Tensor | None) -> NDArray[Any] | None:
    return None if tensor is None else tensor.numpy()


def _inner_product(kernel: Callable[..., NDArray[Any]]) -> Operation:
    """`kernels.ops.bconv2d` or `bgemm` on tensors; for constants, others are run as `Fused`."""

    def run(bits: Tensor, weight_bits: Tensor, *rest: Any) -> Tensor:
        values = (bits, weight_bits, *rest)
        arrays = (v.contiguous().numpy() if isinstance(v, Tensor) else v for v in values)
        return torch.from_numpy(kernel(*arrays))

    return run


OWN_OPERATIONS: dict[str, Operation] = {
    "bitpack": bitpack,
    "bconv2d": _inner_product(ops.bconv2d),
    "bgemm": _inner_product(ops.bgemm),
    "bitunpack": bitunpack,
    "getitem": operator.getitem,
    **INTEGERS,
}
"""What runs an operator that is not torch's."""


def operation(op: str) -> Operation:
    """What runs an operator.

    Args:
        op: its name in the vocabulary.

    Raises:
        ArtifactError: it is not in the vocabulary, or this torch does not have it.
    """
    if op not in signatures():
        raise ArtifactError(f"operator `{op}` is not one of those a program may name")
    if op in OWN_OPERATIONS:
        return OWN_OPERATIONS[op]
    _, name, overload = op.split(".")
    try:
        function: Operation = getattr(getattr(torch.ops.aten, name), overload)
    except AttributeError as error:
        raise ArtifactError(
            f"torch {torch.__version__} has no operator `{op}`; update it"
        ) from error
    return function


def dtype(value: Dtype) -> torch.dtype:
    """torch's element type."""
    kind: torch.dtype = getattr(torch, value.name)
    return kind
