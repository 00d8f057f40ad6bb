"""Calls of the kernels' Python face with sizes at borders, and with what is no size at all."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from irbin.errors import UsageError
from irbin.kernels import native, ops

from . import values
from .folders import _draw
from .pool import Outcome

NO_SIZES = (None, "3", 2.0, True, np.float32(1), [], (1,), float("nan"), 10**30, -1, 0)


def _size(draw: random.Random, least: int, most: int) -> int:
    return draw.choice((least, least, draw.randint(least, most), most))


def _bits(draw: random.Random, shape: tuple[int, ...], n: int) -> Any:
    """Random signs of n channels, tails zero."""
    seed = draw.randrange(1 << 30)
    signs = np.random.default_rng(seed).integers(0, 2, (*shape[:-1], n), np.uint8)
    packed = np.packbits(signs, axis=-1, bitorder="little")
    return np.ascontiguousarray(packed[..., : shape[-1]])


def _call(draw: random.Random) -> tuple[str, dict[str, Any]]:
    """An operator and arguments that fit."""
    rng = np.random.default_rng(draw.randrange(1 << 30))
    kind = draw.choice(("bitpack", "bconv2d", "bconv2d", "bgemm"))
    n_in = draw.choice((1, 7, 8, 9, 31, 32, 33, 63, 64, 65, 128))
    if kind == "bitpack":
        shape = [_size(draw, 0, 4) for _ in range(draw.randint(1, 4))]
        axis = draw.randrange(len(shape))
        shape[axis] = n_in
        x = rng.standard_normal(shape).astype(np.float32)
        if x.size:
            x.flat[0] = draw.choice((np.nan, -0.0, -np.inf, -1e-45))
        return kind, {"x": x, "channel_axis": axis, "groups": draw.choice((1, 1, n_in))}
    n_out = draw.choice((1, 8, 15, 16, 17, 33))
    scale = rng.integers(-9, 9, n_out, np.int8) if draw.random() < 0.7 else None
    bias = rng.standard_normal(n_out).astype(np.float32) if draw.random() < 0.7 else None
    common = {"scale_log2": scale, "bias": bias}
    if kind == "bgemm":
        rows = _bits(draw, (_size(draw, 0, 5), -(-n_in // 8)), n_in)
        weight = _bits(draw, (n_out, -(-n_in // 8)), n_in)
        return kind, {"bits": rows, "weight_bits": weight, **common, "in_features": n_in}
    kernel = (_size(draw, 1, 4), _size(draw, 1, 4))
    n_bytes = -(-n_in // 8)
    groups = draw.choice((1, 1, 1, 2))
    bits = np.concatenate([_bits(draw, (2, 5, 6, n_bytes), n_in) for _ in range(groups)], axis=-1)
    return kind, {
        "bits": np.ascontiguousarray(bits),
        "weight_bits": _bits(draw, (n_out * groups, *kernel, n_bytes), n_in),
        "scale_log2": None if scale is None else np.tile(scale, groups),
        "bias": None if bias is None else np.tile(bias, groups),
        "in_channels": n_in * groups,
        "stride": (_size(draw, 1, 3), _size(draw, 1, 3)),
        "border": tuple(_size(draw, 0, 7) for _ in range(4)),
        "dilation": (_size(draw, 1, 3), _size(draw, 1, 3)),
        "groups": groups,
    }


def kernels(seed: int, number: int) -> Outcome:
    """The law: `UsageError`, or the reference's bits on 1 and 3 threads."""
    draw = _draw(seed, number)
    name, arguments = _call(draw)
    for _ in range(draw.choice((0, 0, 1, 2))):
        key = draw.choice(list(arguments))
        value = arguments[key]
        if isinstance(value, tuple) and draw.random() < 0.7:
            i = draw.randrange(len(value))
            other = values.integer(draw) if draw.random() < 0.7 else draw.choice(NO_SIZES)
            arguments[key] = (*value[:i], other, *value[i + 1 :])
        elif isinstance(value, np.ndarray) and draw.random() < 0.8:
            arguments[key] = _other_array(value, draw)
        else:
            arguments[key] = values.integer(draw) if draw.random() < 0.5 else draw.choice(NO_SIZES)
    n_threads = draw.choice((1, 3)) if draw.random() < 0.95 else draw.choice(NO_SIZES)
    operator = getattr(ops, name)
    try:
        found = operator(**arguments, n_threads=n_threads)
    except UsageError as error:
        return ("bad", "more than a line") if "\n" in str(error) else ("refused", "")
    except MemoryError:
        return "refused", ""
    with native.using(native.REFERENCE):
        expected = operator(**arguments)
    equal = found.shape == expected.shape and np.array_equal(found, expected, equal_nan=True)
    return ("equal", "") if equal else ("bad", f"{name} differs from the reference")


def _other_array(value: Any, draw: random.Random) -> Any:
    change = draw.randrange(6)
    if change == 0:
        return value.astype(draw.choice((np.float64, np.int32, np.bool_)))
    if change == 1:
        return value[..., :-1] if value.ndim else value
    if change == 2:
        return np.asfortranarray(value)
    if change == 3:
        return value[None]
    if change == 4:
        return value.tolist()
    return np.zeros((0, *value.shape[1:]), value.dtype)
