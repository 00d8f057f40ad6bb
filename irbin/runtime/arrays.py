"""Values as NumPy's arrays or as torch's tensors, over the same memory; torch only where needed."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


_tensors: list[type] = []
"""torch's class, once it is there."""


def is_tensor(value: object) -> bool:
    """Whether a value is torch's; without torch in the process there is none."""
    if not _tensors:
        kind = getattr(sys.modules.get("torch"), "Tensor", None)  # none yet while it is imported
        if kind is None:
            return False
        _tensors.append(kind)
    return isinstance(value, _tensors[0])


def is_shaped(value: object) -> bool:
    """Whether a value is an array or a tensor."""
    return isinstance(value, np.ndarray) or is_tensor(value)


def as_array(value: Any) -> Any:
    """A tensor as the array over its memory; everything else as it is."""
    return value.detach().resolve_neg().numpy() if is_tensor(value) else value


def as_tensor(value: Any) -> Any:
    """An array as the tensor over its memory; everything else as it is."""
    if not isinstance(value, np.ndarray):
        return value
    import torch

    return torch.from_numpy(value)


def dtype_name(value: Any) -> str:
    """The element type of an array or a tensor, as a program names it."""
    return _name(value.dtype)


@cache
def _name(dtype: Any) -> str:
    """Kept: NumPy takes microseconds to name a type."""
    return str(dtype).removeprefix("torch.")


def rows(x: Array, channel_axis: int) -> Array:
    """An array as it lies in memory with its channels innermost; copied if it does not lie so."""
    return np.ascontiguousarray(_turned(x, channel_axis))


def is_in_rows(x: Array, channel_axis: int) -> bool:
    """Whether an array's channels are innermost in memory, without gaps."""
    return bool(_turned(x, channel_axis).flags.c_contiguous)


def unturned(in_rows: Array, channel_axis: int) -> Array:
    """An array whose channels are last, seen with them on another axis."""
    return np.moveaxis(in_rows, -1, channel_axis)


def comes_by_image(x: Array, n: int) -> bool:
    """Whether an array is n images one behind the other in memory, without gaps."""
    if x.ndim == 0 or x.shape[0] != n or x.size == 0:
        return False
    return x.transpose(_order(x)).flags.c_contiguous and _order(x)[0] == 0


def longer(x: Array, n: int) -> Array:
    """Room for n images that lie in memory as those of an array do, for which `comes_by_image`."""
    order = _order(x)
    room = np.empty([n, *(x.shape[axis] for axis in order[1:])], x.dtype)
    return room.transpose([order.index(axis) for axis in range(x.ndim)])


def _order(x: Array) -> list[int]:
    """Its axes from the outermost in memory to the innermost."""
    return sorted(range(x.ndim), key=lambda axis: (-x.strides[axis], axis))


def _turned(x: Array, channel_axis: int) -> Array:
    if channel_axis == x.ndim - 1:
        return x
    if x.ndim == 4:  # the usual one; NumPy's moveaxis takes microseconds
        return x.transpose(0, 2, 3, 1)
    return np.moveaxis(x, channel_axis, -1)


def start(value: Any) -> int:
    """The address at which the memory behind an array or a tensor begins."""
    if isinstance(value, np.ndarray):
        return int(value.__array_interface__["data"][0])
    return int(value.untyped_storage().data_ptr())


def extent(value: Any) -> tuple[int, int]:
    """Where the memory of an array, or the whole of a tensor's, begins, and its bytes."""
    if isinstance(value, np.ndarray):
        return start(value), value.nbytes
    return start(value), int(value.untyped_storage().nbytes())


def copied(value: Any) -> Any:
    """An array or a tensor in memory of its own, laid out as it was."""
    return value.copy(order="K") if isinstance(value, np.ndarray) else value.clone()
