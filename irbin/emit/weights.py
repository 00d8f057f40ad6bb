"""Constants as C arrays: what is equal is written once, and all of it has one checksum."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["float", "int32_t", "int16_t", "uint32_t", "uint64_t"]

PER_LINE = {"float": 8, "int32_t": 12, "int16_t": 16, "uint32_t": 8, "uint64_t": 4}
ALIGNMENT = 64
WORD_BYTES = 8
BLOCK = 16
"""Filters that kernels count at once."""


class Weights:
    """The arrays of a network; filled while its calls are written.

    Args:
        prefix: of their names in C.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._arrays: dict[str, NDArray[Any]] = {}
        self._names: dict[tuple[Kind, bytes], str] = {}

    def add(self, array: NDArray[Any], name: str) -> str:
        """The C name of an array.

        Args:
            array: float32, int32, int16, uint32, or uint8, which is filled with zeros to words.
            name: for readers; a number is put behind one that another array has.
        """
        words = _words(array)
        key = (_kind(words), words.tobytes())
        if key not in self._names:
            whole, number = f"{self._prefix}_{name}", 1
            while whole in self._arrays:
                whole, number = f"{self._prefix}_{name}_{number}", number + 1
            self._names[key] = whole
            self._arrays[whole] = words
        return self._names[key]

    @property
    def n_bytes(self) -> int:
        """Of all arrays."""
        return sum(array.nbytes for array in self._arrays.values())

    @property
    def crc(self) -> int:
        """CRC-32 of all bytes in order, as they lie in a little-endian memory."""
        crc = 0
        for array in self._arrays.values():
            crc = zlib.crc32(array.tobytes(), crc)
        return crc

    def declarations(self) -> Iterator[str]:
        """Lines of a header."""
        for name, array in self._arrays.items():
            yield f"extern const {_kind(array)} {name}[{len(array)}];"

    def definitions(self) -> Iterator[str]:
        """Lines of a source file."""
        for name, array in self._arrays.items():
            kind = _kind(array)
            yield f"_Alignas({ALIGNMENT}) const {kind} {name}[{len(array)}] = {{"
            written = literals(array)
            for at in range(0, len(written), PER_LINE[kind]):
                yield "    " + " ".join(f"{one}," for one in written[at : at + PER_LINE[kind]])
            yield "};"

    def binary(self) -> bytes:
        """All of it as one little-endian file, every array at a multiple of the alignment."""
        return b"".join(
            array.tobytes().ljust(_aligned(array.nbytes), b"\0") for array in self._arrays.values()
        )

    def included(self, path: str) -> Iterator[str]:
        """Lines of a source for the assembler that takes in that file."""
        offset = 0
        for name, array in self._arrays.items():
            yield f"    .balign {ALIGNMENT}"
            yield f"    .globl SYMBOL({name})"
            yield f"SYMBOL({name}):"
            yield f'    .incbin "{path}", {offset}, {array.nbytes}'
            offset += _aligned(array.nbytes)

    def checked(self) -> Iterator[str]:
        """Statements that take the checksum of every array, in order."""
        for name in self._arrays:
            yield f"    crc = irbin_crc32(crc, {name}, sizeof({name}));"


def by_word(weight_bits: NDArray[np.uint8], groups: int) -> NDArray[np.uint32]:
    """Filters of signs as kernels count them: a word of each of a block of filters, then the next.

    Args:
        weight_bits: (out_channels, kernel_height, kernel_width, bytes of in_channels).
        groups: each has blocks of its own.

    Returns:
        Of every group and block of at most 16 filters (words, filters), behind each other.
    """
    flat = weight_bits.reshape(len(weight_bits), -1)
    filled = np.zeros((len(flat), -(-flat.shape[1] // 4) * 4), np.uint8)
    filled[:, : flat.shape[1]] = flat
    words = filled.view("<u4").astype(np.uint32)
    blocks = [
        group[at : at + BLOCK].T.reshape(-1)
        for group in words.reshape(groups, -1, words.shape[1])
        for at in range(0, len(group), BLOCK)
    ]
    return np.concatenate(blocks)


def literals(array: NDArray[Any]) -> list[str]:
    """Numbers as C reads them back, bit for bit."""
    if array.dtype == np.uint64:
        return [f"0x{value:016x}u" for value in array.tolist()]
    if array.dtype == np.uint32:
        return [f"0x{value:08x}u" for value in array.tolist()]
    if array.dtype in (np.int32, np.int16):
        return [str(value) for value in array.tolist()]
    return [float_literal(value) for value in array.tolist()]


def float_literal(value: float) -> str:
    """A float32 as C reads it back: nine digits tell every one of them."""
    if math.isnan(value):
        return "NAN"
    if math.isinf(value):
        return "INFINITY" if value > 0 else "-INFINITY"
    text = f"{value:.9g}"
    return f"{text}f" if "." in text or "e" in text else f"{text}.0f"


def _aligned(n_bytes: int) -> int:
    return -(-n_bytes // ALIGNMENT) * ALIGNMENT


def _kind(array: NDArray[Any]) -> Kind:
    kinds: dict[str, Kind] = {
        "float32": "float",
        "int32": "int32_t",
        "int16": "int16_t",
        "uint32": "uint32_t",
        "uint64": "uint64_t",
    }
    return kinds[str(array.dtype)]


def _words(array: NDArray[Any]) -> NDArray[Any]:
    flat = np.ascontiguousarray(array).reshape(-1)
    if flat.dtype != np.uint8:
        return flat
    filled = np.zeros(-(-len(flat) // WORD_BYTES) * WORD_BYTES, np.uint8)
    filled[: len(flat)] = flat
    return filled.view("<u8").astype(np.uint64)
