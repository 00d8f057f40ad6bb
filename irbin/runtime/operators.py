"""What runs each operator of the vocabulary: torch for ATen's, the kernels for irbin's.

Looked up by name in the closed list only; nothing in a file can name another function. torch is
imported when one of its operators is looked up.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from irbin.errors import ArtifactError
from irbin.kernels import ops, reference
from irbin.program.claims import INTEGERS
from irbin.program.shapes import SIZE
from irbin.program.types import Dtype
from irbin.program.vocabulary import signatures
from irbin.runtime.arrays import Array
from irbin.runtime.threads import kernel_threads

if TYPE_CHECKING:
    import torch

Operation = Callable[..., Any]


def bitpack(x: Array, channel_axis: int, groups: int) -> Array:
    """`kernels.ops.bitpack` on as many threads as there are."""
    return ops.bitpack(x, channel_axis, groups, kernel_threads())


def _inner_product(kernel: Callable[..., NDArray[Any]]) -> Operation:
    """`kernels.ops.bconv2d` or `bgemm`; for constants, others are run as `Fused`."""

    def run(*values: Any) -> Array:
        return kernel(
            *(np.ascontiguousarray(v) if isinstance(v, np.ndarray) else v for v in values)
        )

    return run


def _size(x: Any, axis: int) -> int:
    return int(x.shape[axis])


OWN_OPERATIONS: dict[str, Operation] = {
    "bitpack": bitpack,
    "bconv2d": _inner_product(ops.bconv2d),
    "bgemm": _inner_product(ops.bgemm),
    "bitunpack": reference.bitunpack,
    "getitem": operator.getitem,
    SIZE: _size,
    **INTEGERS,
}
"""What runs an operator that is not torch's: on arrays."""


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
    import torch

    _, name, overload = op.split(".")
    try:
        function: Operation = getattr(getattr(torch.ops.aten, name), overload)
    except AttributeError as error:
        raise ArtifactError(
            f"torch {torch.__version__} has no operator `{op}`; update it"
        ) from error
    return function


class Operations(dict[str, Operation]):
    """What runs each operator, looked up when it is first asked for."""

    def __missing__(self, op: str) -> Operation:
        self[op] = operation(op)
        return self[op]


def dtype(value: Dtype) -> torch.dtype:
    """torch's element type."""
    import torch

    kind: torch.dtype = getattr(torch, value.name)
    return kind
