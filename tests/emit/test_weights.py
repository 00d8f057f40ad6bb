from __future__ import annotations

import math
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irbin.emit.weights import Weights, by_word, float_literal, literals


@given(st.integers(0, 2**32 - 1))
def test_a_float_literal_reads_back_bit_for_bit(bits: int) -> None:
    value = np.array(bits, np.uint32).view(np.float32)
    if not np.isfinite(value):
        return
    read = np.float32(float(float_literal(float(value)).removesuffix("f")))
    assert read.view(np.uint32) == value.view(np.uint32)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.0f"),
        (-0.0, "-0.0f"),
        (1.0, "1.0f"),
        (1e30, "1.00000002e+30f"),
        (2.0**-149, "1.40129846e-45f"),
        (math.inf, "INFINITY"),
        (-math.inf, "-INFINITY"),
        (math.nan, "NAN"),
    ],
)
def test_float_literals(value: float, text: str) -> None:
    assert float_literal(float(np.float32(value))) == text


def test_whole_numbers_keep_their_sign() -> None:
    assert literals(np.array([-(2**31) + 1, 0, 7], np.int32)) == ["-2147483647", "0", "7"]


@pytest.mark.parametrize("n", [1, 7, 8, 9, 15, 16])
def test_bytes_fill_whole_words(n: int) -> None:
    weights = Weights("net")
    weights.add(np.arange(1, n + 1, dtype=np.uint8), "w")
    words = [int(text[:-1], 16) for text in literals(next(iter(weights._arrays.values())))]
    read = b"".join(word.to_bytes(8, "little") for word in words)
    assert read == bytes(range(1, n + 1)).ljust(-(-n // 8) * 8, b"\0")


@pytest.mark.parametrize("n_out", [1, 15, 16, 17, 33])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("n_bytes", [1, 3, 4, 5, 9])
def test_filters_lie_by_word(n_out: int, groups: int, n_bytes: int) -> None:
    draw = np.random.default_rng(n_out)
    bits = draw.integers(0, 256, (groups * n_out, 1, 1, n_bytes)).astype(np.uint8)
    n_words, words = -(-n_bytes // 4), by_word(bits, groups)
    assert (words.dtype, words.shape) == (np.uint32, (groups * n_out * n_words,))
    for g in range(groups):
        for o in range(n_out):
            block = o - o % 16
            n = min(16, n_out - block)
            begin = (g * n_out + block) * n_words + o % 16
            read = b"".join(int(words[begin + k * n]).to_bytes(4, "little") for k in range(n_words))
            assert read == bits[g * n_out + o].tobytes().ljust(n_words * 4, b"\0")


def test_words_of_filters_keep_their_bits() -> None:
    assert literals(np.array([0, 1, 2**32 - 1], np.uint32)) == [
        "0x00000000u",
        "0x00000001u",
        "0xffffffffu",
    ]


def test_what_is_equal_is_written_once() -> None:
    weights = Weights("net")
    ones = np.ones(4, np.float32)
    assert weights.add(ones, "a") == weights.add(ones.copy(), "b") == "net_a"
    assert weights.add(ones.view(np.int32), "c") == "net_c"  # the same bytes, another type
    assert weights.n_bytes == 32
    assert weights.crc == zlib.crc32(2 * ones.tobytes())


def test_two_arrays_of_one_name_are_two() -> None:
    weights = Weights("net")
    one, other = np.arange(3, dtype=np.float32), np.arange(1, 4, dtype=np.float32)
    names = [weights.add(array, "0_operand") for array in (one, other, one, other)]
    assert names == ["net_0_operand", "net_0_operand_1"] * 2
    assert weights.n_bytes == 24
