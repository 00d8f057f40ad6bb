"""THE bit convention: bit 1 ⇔ −1, eight signs to a byte, LSB first, tail bits zero.

Bit 1 stands for the negative number so that the zero tail bits of two operands agree and vanish
under xor; no kernel needs a mask. `docs/format.md` says the same in words; `tests/test_bits.py`
binds this definition of sign to the one that trains (`binary/estimator.py`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIGNS_PER_BYTE = 8
LEAST = 2.0**-126
"""Smallest normal float32: keeps a sign where an activation's was lost, and moves nothing else."""


def packed_bytes(n_signs: int) -> int:
    """Bytes that hold `n_signs` signs along the packed axis, ⌈n/8⌉."""
    return -(-n_signs // SIGNS_PER_BYTE)


def sign(x: NDArray[np.floating]) -> NDArray[np.float32]:
    """−1 where x < 0, else +1: zero, −0.0 and NaN give +1. Any shape; returns float32."""
    return np.where(x < 0, np.float32(-1), np.float32(1))


def pack(x: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Packs the signs of `x` along its last axis.

    Args:
        x: shape (..., n); only x < 0 is looked at.

    Returns:
        uint8 of shape (..., ⌈n/8⌉); sign j sits in byte j // 8 at bit j % 8; tail bits are zero.
    """
    return np.packbits(x < 0, axis=-1, bitorder="little")


def unpack(bits: NDArray[np.uint8], n_signs: int) -> NDArray[np.float32]:
    """The ±1 values behind `bits`: the inverse of `pack` on signs.

    Args:
        bits: uint8 of shape (..., ⌈n_signs/8⌉).
        n_signs: signs along the last axis of the result.

    Returns:
        float32 of shape (..., n_signs).
    """
    ones = np.unpackbits(bits, axis=-1, count=n_signs, bitorder="little")
    return (1 - 2 * ones.astype(np.int8)).astype(np.float32)


def tail_is_zero(bits: NDArray[np.uint8], n_signs: int) -> bool:
    """Whether the unused bits of the last byte are zero, as the format demands.

    Args:
        bits: uint8 of shape (..., ⌈n_signs/8⌉).
        n_signs: signs in use along the last axis.
    """
    n_used = n_signs % SIGNS_PER_BYTE
    if n_used == 0:
        return True
    return not np.any(bits[..., -1] >> n_used)
