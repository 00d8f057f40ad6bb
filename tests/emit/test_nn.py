"""What irbin_nn.c computes by itself, against the definitions: floats of every kind of bits."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from ctypes import POINTER, c_float, c_int32, c_size_t, c_uint8, c_void_p
from importlib.resources import files
from typing import get_args

import numpy as np
import pytest

from irbin.kernels import activations, float_reference, tensor_reference

GCC = shutil.which("gcc")
pytestmark = pytest.mark.skipif(GCC is None, reason="there is no gcc")

N = 1 << 16
_KINDS = """
multiply add residual clamp prelu write elu sigmoid silu hardsigmoid hardswish gelu gelu_tanh tanh
mish hold keep
"""
KINDS = _KINDS.split()
_MEETINGS = """
plus minus times over maximum minimum negative absolute square reciprocal root inverse_root power
less less_or_equal greater greater_or_equal equal not_equal where
"""
MEETINGS = _MEETINGS.split()
LEVELS = ("-O0", "-O2", "-O3 -march=native -std=gnu11")


class Step(ctypes.Structure):
    _fields_ = (
        ("kind", c_int32),
        ("residual", c_int32),
        ("low", c_float),
        ("high", c_float),
        ("values", POINTER(c_float)),
        ("before", c_int32),
        ("channels", c_int32),
    )


class Out(ctypes.Structure):
    _fields_ = (
        ("steps", POINTER(Step)),
        ("n_steps", c_int32),
        ("residuals", c_void_p * 4),
        ("y", c_void_p),
        ("bits", POINTER(c_uint8)),
        ("lower", POINTER(c_int32)),
        ("flips", POINTER(c_uint8)),
    )


class Heads(ctypes.Structure):
    _fields_ = (
        ("sizes", c_int32 * 5),
        ("looks", c_int32 * 9),
        ("scale", c_float),
        ("mask", c_void_p),
        ("mask_heads", c_int32),
    )


class Walk(ctypes.Structure):
    _fields_ = (
        ("axes", c_int32),
        ("size", c_int32 * 8),
        ("steps", c_int32 * 24),
    )


@pytest.fixture(scope="module", params=LEVELS)
def nn(request, tmp_path_factory) -> ctypes.CDLL:
    """The kernels as a library that is loaded here."""
    place = tmp_path_factory.mktemp("nn") / "nn.so"
    source = str(files("irbin.emit") / "c" / "irbin_nn.c")
    flags = ["-shared", "-fPIC", "-Wno-unknown-pragmas", *request.param.split()]
    subprocess.run([str(GCC), *flags, source, "-o", str(place), "-lm"], check=True)
    return ctypes.CDLL(str(place))


def floats(seed: int) -> np.ndarray:
    """All borders, numbers of everyday size, and bits drawn blindly."""
    draw = np.random.default_rng(seed)
    borders = [0, -0.0, 1, -1, 3, -3, 3.9192061, 88.7, 88.8, -104, -150, np.inf, -np.inf, np.nan]
    borders += [2.0**e for e in (-149, -127, -126, -24, 23, 24, 127)]
    blind = draw.integers(0, 2**32, N // 2, dtype=np.uint64).astype(np.uint32).view(np.float32)
    usual = draw.standard_normal(N // 2 - len(borders)).astype(np.float32) * 8
    return np.concatenate([np.array(borders, np.float32), usual, blind])


def bits(x: np.ndarray) -> np.ndarray:
    """To compare by; one NaN is as good as another."""
    return np.where(np.isnan(x), np.uint32(0x7FC00000), np.asarray(x, np.float32).view(np.uint32))


def pointer(x: np.ndarray) -> c_void_p:
    return c_void_p(x.ctypes.data)


@pytest.mark.parametrize("kind", [*activations.DEFINITIONS, "elu"])
def test_activations_are_the_definitions(nn, kind: str) -> None:
    x, y = floats(1), np.empty(N, np.float32)
    slope = np.full(1, -1.25, np.float32)
    step = Step(KINDS.index(kind), values=slope.ctypes.data_as(POINTER(c_float)))
    out = Out(ctypes.pointer(step), 1, y=y.ctypes.data)
    nn.irbin_rows(c_int32(N), c_int32(1), pointer(x), ctypes.byref(out))
    with np.errstate(all="ignore"):
        wanted = activations.elu(x, slope) if kind == "elu" else activations.DEFINITIONS[kind](x)
    assert np.array_equal(bits(y), bits(wanted))


def test_a_kept_sign_is_the_definitions(nn) -> None:
    x, y = floats(1), np.empty(N, np.float32)
    steps = (Step * 3)(*(Step(KINDS.index(kind)) for kind in ("hold", "gelu", "keep")))
    out = Out(steps, 3, y=y.ctypes.data)
    nn.irbin_rows(c_int32(N), c_int32(1), pointer(x), ctypes.byref(out))
    with np.errstate(all="ignore"):
        wanted = activations.kept(activations.gelu(x), x)
    assert np.array_equal(bits(y), bits(wanted))


def test_a_product_and_a_sum_are_rounded_once(nn) -> None:
    """A depthwise convolution of two taps, the first by 1: fma(b, c, 1 * a + 0)."""
    a, b, c = floats(2), floats(3), floats(4)
    with np.errstate(all="ignore"):
        c[: N // 2] = (-a / b)[: N // 2]  # the sum nearly cancels
    y = np.empty(N, np.float32)
    window = (c_int32 * 12)(1, 2, 1, 1, 1, 2, 1, 1, 1, 1, 0, 0)
    x, weight = np.concatenate([a, b]), np.concatenate([np.ones(N, np.float32), c])
    out = Out(None, 0, y=y.ctypes.data)
    nn.irbin_depthwise(window, c_int32(N), pointer(weight), pointer(x), ctypes.byref(out))
    with np.errstate(all="ignore"):
        first = float_reference.multiply_add(a, np.float32(1), np.zeros(N, np.float32))
        wanted = float_reference.multiply_add(b, c, first)
    assert np.array_equal(bits(y), bits(wanted))


@pytest.mark.parametrize("operation", MEETINGS)
def test_operations_round_once(nn, operation: str) -> None:
    a, b, y = floats(5), floats(6), np.full(N, 7, np.float32)
    one = np.float32(1)
    with np.errstate(all="ignore"):
        wanted = {
            "plus": lambda: a + b,
            "minus": lambda: a - b,
            "times": lambda: a * b,
            "over": lambda: a / b,
            "maximum": lambda: np.maximum(a, b),
            "minimum": lambda: np.minimum(a, b),
            "negative": lambda: -a,
            "absolute": lambda: np.abs(a),
            "square": lambda: a * a,
            "reciprocal": lambda: one / a,
            "root": lambda: np.sqrt(a),
            "inverse_root": lambda: one / np.sqrt(a),
            "power": lambda: activations.exp(a),
            "less": lambda: (a < b).astype(np.float32),
            "less_or_equal": lambda: (a <= b).astype(np.float32),
            "greater": lambda: (a > b).astype(np.float32),
            "greater_or_equal": lambda: (a >= b).astype(np.float32),
            "equal": lambda: (a == b).astype(np.float32),
            "not_equal": lambda: (a != b).astype(np.float32),
            "where": lambda: np.where(a != 0, b, np.float32(7)),
        }[operation]()
    walk = Walk(1, (c_int32 * 8)(N), (c_int32 * 24)(1, *[0] * 7, 1, *[0] * 7, 1))
    number = c_int32(MEETINGS.index(operation))
    nn.irbin_meet(ctypes.byref(walk), number, c_float(1), pointer(a), pointer(b), pointer(y))
    assert np.array_equal(bits(y), bits(wanted))


SIZES = [(1, 1, 1, 1, 1), (2, 3, 15, 7, 8), (3, 2, 16, 8, 9), (1, 4, 17, 16, 16), (2, 1, 33, 5, 17)]


@pytest.mark.parametrize("masks", [0, 1, 3])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_attention_is_the_definitions(nn, sizes: tuple[int, ...], masks: int) -> None:
    """Queries, keys and values side by side in one row, as a linear layer gives them."""
    n_heads, n_queries, n_keys, depth, width = sizes
    draw, row = np.random.default_rng(7), n_heads * (2 * depth + width)
    x = (draw.standard_normal((max(n_queries, n_keys), row)) * 3).astype(np.float32)
    x[0, 0] = np.nan if masks == 3 else -0.0
    ends = np.cumsum([n_heads * depth, n_heads * depth])
    each = [part.reshape(len(x), n_heads, -1).transpose(1, 0, 2) for part in np.split(x, ends, 1)]
    mask = draw.standard_normal((n_heads if masks > 1 else 1, n_queries, n_keys)).astype(np.float32)
    mask[..., -1] = -np.inf if n_keys > 1 else 0
    work, y = (
        np.empty(n_heads * width + n_keys, np.float32),
        np.empty((n_queries, n_heads * width), np.float32),
    )
    heads = Heads(
        (c_int32 * 5)(*sizes),
        (c_int32 * 9)(0, depth, row, ends[0], depth, row, ends[1], width, row),
        0.3,
        mask.ctypes.data if masks else None,
        len(mask),
    )
    out = Out(None, 0, y=y.ctypes.data)
    read = [pointer(x)] * 3
    nn.irbin_attention(ctypes.byref(heads), *read, pointer(work), ctypes.byref(out))
    queries, keys, values = (
        each[0][None, :, :n_queries],
        each[1][None, :, :n_keys],
        each[2][None, :, :n_keys],
    )
    wanted = float_reference.attention(
        queries, keys, values, np.float32(0.3), mask if masks else None
    )
    assert np.array_equal(bits(y), bits(wanted[0].transpose(1, 0, 2).reshape(y.shape)))


@pytest.mark.parametrize("folding", get_args(tensor_reference.Folding))
def test_numbers_are_folded_by_definition(nn, folding: str) -> None:
    """Along the third axis, then the first."""
    x = np.random.default_rng(3).standard_normal((5, 4, 7)).astype(np.float32) * 30
    x[:, 1], x[2, 2, 3], x[0, 3] = -0.0, np.nan, np.inf
    wanted = tensor_reference.folded(x, (2, 0), folding, 9.0)
    y, number = np.empty(4, np.float32), get_args(tensor_reference.Folding).index(folding)
    walk = Walk(1, (c_int32 * 8)(4), (c_int32 * 24)(7, *[0] * 15, 1))
    terms = Walk(2, (c_int32 * 8)(7, 5), (c_int32 * 24)(1, 28))
    both = ctypes.byref(walk), ctypes.byref(terms)
    nn.irbin_fold(*both, c_int32(number), c_float(9), pointer(x), pointer(y))
    assert np.array_equal(bits(y), bits(wanted.reshape(4)))


class Product(ctypes.Structure):
    _fields_ = (("walk", Walk), ("sizes", c_int32 * 3), ("steps", c_int32 * 6))


@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 7, 15), (3, 8, 16), (5, 33, 17)], ids=str)
def test_matrices_are_multiplied_by_definition(nn, sizes: tuple[int, int, int]) -> None:
    """Of a batch of two, the second matrix turned, the result's rows lying apart."""
    rows, depth, columns = sizes
    draw = np.random.default_rng(sum(sizes))
    a = draw.standard_normal((2, rows, depth)).astype(np.float32)
    b = draw.standard_normal((columns, depth)).astype(np.float32)
    b.flat[0], y = np.nan, np.zeros((2, rows, columns + 1), np.float32)
    walk = Walk(1, (c_int32 * 8)(2), (c_int32 * 24)(rows * depth, *[0] * 15, rows * (columns + 1)))
    steps = (c_int32 * 6)(depth, 1, 1, depth, columns + 1, 1)
    product = Product(walk, (c_int32 * 3)(*sizes), steps)
    nn.irbin_matmul(ctypes.byref(product), pointer(a), pointer(b), pointer(y))
    assert np.array_equal(bits(y[..., :-1]), bits(tensor_reference.matmul(a, b.T[None])))
    assert not y[..., -1].any()


@pytest.mark.parametrize("n", [1, 7, 15, 16, 17, 33])
def test_softmax_is_the_definitions(nn, n: int) -> None:
    """Along the first axis, into a result that is turned."""
    x = np.random.default_rng(n).standard_normal((n, 4)).astype(np.float32) * 30
    x[:, 1], x[-1, 2], x[0, 3] = -np.inf, np.nan, np.inf
    y = np.empty((4, n), np.float32)
    walk = Walk(1, (c_int32 * 8)(4), (c_int32 * 24)(1, *[0] * 15, n))
    nn.irbin_softmax(ctypes.byref(walk), c_int32(n), c_int32(4), c_int32(1), pointer(x), pointer(y))
    with np.errstate(all="ignore"):
        wanted = tensor_reference.softmax(x, 0).T
    assert np.array_equal(bits(y), bits(wanted))


def test_a_checksum_is_zlibs(nn) -> None:
    import zlib

    content = bytes(range(256)) * 3
    nn.irbin_crc32.restype = ctypes.c_uint32
    assert nn.irbin_crc32(0, content, c_size_t(len(content))) == zlib.crc32(content)
