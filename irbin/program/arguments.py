"""Which arguments an ATen operator may be given: bounded ones, of which torch knows what to do.

A signature's kinds (`vocabulary.py`) do not say that `training=False` without statistics ends the
process, or that a window of a million pixels takes a terabyte. Everything here is decided without
torch, before anything runs; what fits is left to torch's own checks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from irbin.bounds import (
    MAX_ARGUMENT_NESTING,
    MAX_INTEGER,
    MAX_LIST,
    MAX_REACH,
    MAX_TEXT,
    TO_THE_END,
)
from irbin.program.types import INT, Ref, TensorType, Value, ValueType, in_text, shortened

Given = Mapping[str, Value]
"""An operator's arguments by name."""

_ONLY: dict[str, dict[str, tuple[Value, ...]]] = {
    "aten._native_batch_norm_legit.no_stats": {"training": (True,)},  # there are no others to use
    "aten.lstm.input": {"train": (False,)},
    "aten.scaled_dot_product_attention.default": {"dropout_p": (0.0,)},
    "aten.repeat_interleave.self_int": {"output_size": (None,)},  # torch believes it
    "aten.einsum.default": {"path": (None,)},
    "aten.gelu.default": {"approximate": ("none", "tanh")},
    "aten.div.Tensor_mode": {"rounding_mode": (None, "floor", "trunc")},
    "aten.meshgrid.indexing": {"indexing": ("ij", "xy")},
    "aten.pad.default": {"mode": ("constant", "reflect", "replicate", "circular")},
    "aten.conv2d.padding": {"padding": ("same", "valid")},
    "aten.embedding.default": {"sparse": (False,), "scale_grad_by_freq": (False,)},
}
"""Arguments of which only some values mean anything here."""

_AT_LEAST_ONE = {
    "aten.group_norm.default": "num_groups",
    "aten.one_hot.default": "num_classes",
    "aten.pixel_shuffle.default": "upscale_factor",
    "aten.pixel_unshuffle.default": "downscale_factor",
    "aten.split.Tensor": "split_size",
    "aten.repeat_interleave.self_int": "repeats",
    "aten.lstm.input": "num_layers",
}
N_RESULTS = {
    "aten._native_batch_norm_legit.no_stats": 3,
    "aten.adaptive_max_pool2d.default": 2,
    "aten.lstm.input": 3,
    "aten.max.dim": 2,
    "aten.var_mean.correction": 2,
    "aten.meshgrid.indexing": None,
    "aten.split.Tensor": None,
    "aten.split_with_sizes.default": None,
    "aten.unbind.int": None,
}
"""Operators with several results, and how many where that is fixed."""
_SIZES = ("aten.sym_size.int", "int_add", "int_sub", "int_mul", "int_floordiv", "int_mod")
"""Operators that give a size."""
_WINDOW = {"kernel_size": 1, "stride": 1, "dilation": 1, "padding": 0, "output_padding": 0}
"""Arguments of convolutions and poolings that are pixels, and the least of each."""


def argument_problem(
    op: str, given: Given, result: ValueType, types: Mapping[str, ValueType]
) -> str | None:
    """What is wrong with a call that fits its signature, in words, or None.

    Args:
        op: of the vocabulary.
        given: its arguments.
        result: declared.
        types: of everything defined before it.
    """
    for name, value in given.items():
        problem = _value_problem(value, op.startswith("aten.slice") and name in ("start", "end"))
        if problem is not None:
            return f"argument `{name}` of `{op}`: {problem}"
    for name, allowed in _ONLY.get(op, {}).items():
        if name in given and given[name] not in allowed:
            wanted = " or ".join(map(repr, allowed))
            return f"argument `{name}` of `{op}`: expected {wanted}, got {given[name]!r}"
    least = _AT_LEAST_ONE.get(op)
    count = given.get(least) if least is not None else None
    if least is not None and not isinstance(count, Ref) and not _is_from(count, 1):
        return f"argument `{least}` of `{op}`: expected at least 1, got {count!r}"
    return (
        _window_problem(op, given)
        or _scale_problem(op, given)
        or _result_problem(op, given, result, types)
    )


def _value_problem(value: Value, is_end: bool, depth: int = 0) -> str | None:
    if isinstance(value, tuple):
        if len(value) > MAX_LIST or depth >= MAX_ARGUMENT_NESTING:
            return f"expected at most {MAX_LIST} items in {MAX_ARGUMENT_NESTING} levels of lists"
        problems = (_value_problem(item, is_end, depth + 1) for item in value)
        return next((problem for problem in problems if problem is not None), None)
    if isinstance(value, str) and len(value) > MAX_TEXT:
        return f"expected a text of at most {MAX_TEXT} characters, got {shortened(value)}"
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if is_number and abs(value) > MAX_INTEGER and not (is_end and value == TO_THE_END):  # type: ignore[arg-type]
        return f"expected an integer within ±{MAX_INTEGER}, got {shortened(value)}"
    return None


def _window_problem(op: str, given: Given) -> str | None:
    is_pool, name_of = "_pool" in op, op.removeprefix("aten.").partition(".")[0]
    if not (is_pool or name_of.startswith("conv") or name_of in ("im2col", "col2im")):
        return None
    windows: dict[str, tuple[int, ...]] = {}
    for name, least in _WINDOW.items():
        value = given.get(name, ())
        numbers = value if isinstance(value, tuple) else (value,)
        if isinstance(value, str):  # conv2d.padding
            continue
        if not all(_is_from(v, least) and v <= MAX_REACH for v in numbers):  # type: ignore[operator]
            return (
                f"argument `{name}` of `{op}`: expected numbers from {least} to {MAX_REACH}, "
                f"got {value!r}"
            )
        windows[name] = numbers  # type: ignore[assignment]  # just looked
    groups = given.get("groups", 1)
    if not isinstance(groups, Ref) and not _is_from(groups, 1):  # CondConv has as many as images
        return f"argument `groups` of `{op}`: expected at least 1, got {groups!r}"
    kernel, padding = windows.get("kernel_size", ()), windows.get("padding", ())
    if is_pool and kernel and padding:
        pairs = zip(_widened(kernel, padding), _widened(padding, kernel), strict=False)
        if any(2 * pad > size for size, pad in pairs):
            return (
                f"argument `padding` of `{op}`: expected at most half of the window {kernel!r}, "
                f"got {padding!r}"
            )
    return None


def _widened(values: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    """A lone number stands for every axis."""
    return values * len(other) if len(values) == 1 else values


def _scale_problem(op: str, given: Given) -> str | None:
    factors = given.get("scale_factors")
    for factor in factors if isinstance(factors, tuple) else ():
        is_number = isinstance(factor, int | float) and math.isfinite(factor)
        if not (is_number and 1 / MAX_REACH <= factor <= MAX_REACH):  # type: ignore[operator]
            return (
                f"argument `scale_factors` of `{op}`: expected numbers from 1/{MAX_REACH} to "
                f"{MAX_REACH}, got {factor!r}"
            )
    is_resize = op.endswith("_aa.vec") or op.startswith("aten.upsample")
    if is_resize and (given.get("output_size") is None) == (factors is None):
        return f"`{op}` takes one of `output_size` and `scale_factors`"
    return None


def _result_problem(
    op: str, given: Given, result: ValueType, types: Mapping[str, ValueType]
) -> str | None:
    """What is wrong with the kind of the declared result: one tensor, several, a size."""
    if op == "getitem":
        values, index = given["values"], given["index"]
        several = types[values.name] if isinstance(values, Ref) else ()
        if not (isinstance(several, tuple) and _is_from(index, 0) and index < len(several)):  # type: ignore[operator]
            return f"`getitem`: expected an index below {len(several)}, got {index!r}"  # type: ignore[arg-type]
        picked = several[index]  # type: ignore[index]  # just looked
        return None if result == picked else f"`getitem` gives {picked}, not {in_text(result)}"
    if op in N_RESULTS:
        n = N_RESULTS[op]
        fits = isinstance(result, tuple) and (n is None or len(result) == n)
        if isinstance(result, tuple) and any(kind.dtype == INT for kind in result):
            fits = False
        return None if fits else f"`{op}` gives {n or 'several'} tensors, not {in_text(result)}"
    is_size = isinstance(result, TensorType) and result.dtype == INT
    if isinstance(result, tuple) or is_size != (op in _SIZES):
        wanted = "a size (`int`)" if op in _SIZES else "a tensor"
        return f"`{op}` gives {wanted}, not {in_text(result)}"
    return None


def _is_from(value: Value, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
