"""The file of a packed folder's tensors, read as NumPy's arrays, so that no torch is needed.

safetensors gives bytes here: its own NumPy face has no word for bfloat16, as NumPy has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import deserialize

_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
"""Element types as safetensors writes them, and as a program names them."""

BFLOAT16 = "bfloat16"


@dataclass(frozen=True, eq=False)
class Stored:
    """A tensor as it lies in the file. Made by `read_stored`, read by `read_artifact`."""

    dtype: str
    """Its element type, as a program names it; safetensors' own word for one that it cannot."""
    shape: tuple[int, ...]
    """Its sizes."""
    data: bytearray
    """Little-endian, rows one behind the other."""

    def array(self) -> NDArray[Any]:
        """The numbers, over the same memory; of bfloat16 the 16 bits of each, as uint16."""
        kind = np.dtype(np.uint16 if self.dtype == BFLOAT16 else self.dtype)
        flat = np.frombuffer(self.data, kind.newbyteorder("<"))
        return flat.astype(kind, copy=False).reshape(self.shape)

    def as_dtype(self, dtype: str) -> Any:
        """The numbers, widened exactly where `dtype` is wider.

        Args:
            dtype: as a program names it: the file's own, or float32 for half precision.

        Returns:
            An array; of bfloat16, which NumPy has not, a tensor of torch's.
        """
        array = self.array()
        if self.dtype != BFLOAT16:
            return array.astype(dtype, copy=False)
        if dtype == BFLOAT16:
            import torch

            return torch.from_numpy(array).view(torch.bfloat16)
        return (array.astype(np.uint32) << 16).view(np.float32)

    def __str__(self) -> str:
        """As a program writes a type: `float32[3,4]`."""
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"


def read_stored(path: Path) -> dict[str, Stored]:
    """Every tensor of a file, by name, in memory of its own.

    Args:
        path: a file of safetensors.

    Raises:
        Exception: it cannot be read, or is cut short or damaged; safetensors lets a dozen types
            through. Nothing of the file ran.
    """
    tensors = deserialize(path.read_bytes())  # type: ignore[no-untyped-call]  # it has no types
    return {
        name: Stored(_DTYPES.get(one["dtype"], one["dtype"]), tuple(one["shape"]), one["data"])
        for name, one in tensors
    }
