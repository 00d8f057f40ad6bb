"""Walks are what NumPy's strides say, in every implementation, on any threads."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irbin.errors import UsageError
from irbin.kernels.steps import Step
from irbin.kernels.walks import WalkKernel
from irbin.legs import CONSTANTS, WALK_KINDS, Leg, Way

pytestmark = pytest.mark.usefixtures("implementation")

TRICKY = (0.0, -0.0, 1e-45, 3e38, -3e38, np.inf, -np.inf, np.nan)
BORDERS = (1, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65)


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    usual = random.standard_normal(shape).astype(np.float32)
    return np.where(random.random(shape) < 1 / 8, random.choice(TRICKY, shape), usual).astype("f4")


def check(kernel: WalkKernel, *read: np.ndarray, residuals=(), n_threads: int = 1) -> np.ndarray:
    x, *others = read
    shape = kernel._out_shape(len(x))
    packed = (*shape[:-1], -(-shape[-1] // 8))
    wanted, bits = np.empty(shape, np.float32), np.empty(packed, np.uint8)
    kernel.define(x, (*residuals, *others), wanted, bits)
    for wants_y, wants_bits in ((True, False), (False, True), (True, True)):
        y = np.full(shape, 7, np.float32) if wants_y else None
        y_bits = np.full(packed, 0xA5, np.uint8) if wants_bits else None
        kernel(x, (*residuals, *others), y, y_bits, n_threads)
        if y is not None:
            assert np.array_equal(y, wanted, equal_nan=True)
            number = ~np.isnan(y)
            assert np.array_equal(np.signbit(y[number]), np.signbit(wanted[number]))
        if y_bits is not None:
            assert np.array_equal(y_bits, bits)
    return wanted


def in_a_row(kind: str, n: int, b: Way | None = None) -> Leg:
    way = Way(0, 0, (1,))
    return Leg(kind, (n,), way, way, b or way)


@pytest.mark.parametrize("n", BORDERS)
@pytest.mark.parametrize("kind", WALK_KINDS)
def test_each_kind(kind, n):
    if kind in ("sum", "softmax"):
        leg = Leg(kind, (n,), Way(0, 0, (1,)), Way(0, 0, (1,)), Way(0, 0, (1,)), 3, n, n)
        size = 3 * n if kind == "softmax" else n
        check(WalkKernel((1, size), (3 * n,), [leg]), numbers(2, 3 * n))
        return
    kernel = WalkKernel((n,), (n, n), [in_a_row(kind, n, Way(1, 0, (1,)))])
    check(kernel, numbers(2, n), numbers(2, n, seed=1))


@st.composite
def walks(draw: st.DrawFn) -> tuple[WalkKernel, list[np.ndarray]]:
    """A box of results, one leg each along its first axis, that reads from anywhere."""
    shape = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    sizes = draw(st.lists(st.integers(1, 40), min_size=1, max_size=3))
    constants = numbers(draw(st.integers(1, 9)), seed=5)
    inner, total = tuple(shape[1:]) or (1,), math.prod(shape[1:])
    strides = tuple(math.prod(inner[i + 1 :]) for i in range(len(inner)))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def way(n_terms: int = 1) -> tuple[Way, int]:
        source = int(random.integers(-1, len(sizes)))
        size = len(constants) if source == CONSTANTS else sizes[source]
        at, low, high, found = int(random.integers(0, size)), 0, 0, []
        for n in (*inner, n_terms):
            by = int(random.integers(-3, 4))
            reach = (n - 1) * by
            if not (at + low + min(reach, 0) >= 0 and at + high + max(reach, 0) < size):
                by = reach = 0
            low, high = low + min(reach, 0), high + max(reach, 0)
            found.append(by)
        return Way(source, at, tuple(found[:-1])), found[-1]

    legs = []
    for i in range(shape[0]):
        kind = draw(st.sampled_from([k for k in WALK_KINDS if k != "softmax"]))
        n_terms = draw(st.integers(1, 4)) if kind == "sum" else 1
        (first, step), (second, _) = way(n_terms), way()
        legs.append(Leg(kind, inner, Way(0, i * total, strides), first, second, n_terms, step))
    kernel = WalkKernel(shape, sizes, legs, constants)
    n = draw(st.integers(0, 3))
    return kernel, [numbers(n, size, seed=i) for i, size in enumerate(sizes)]


@given(walks(), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_any_walk(made, n_threads):
    kernel, read = made
    check(kernel, *read, n_threads=n_threads)


@pytest.mark.parametrize("n_channels", [1, 15, 16, 17, 33])
def test_steps_follow(n_channels):
    steps = [
        Step("multiply", numbers(n_channels, seed=3)),
        Step("residual"),
        Step("silu"),
        Step("write"),
        Step("add", numbers(n_channels, seed=4)),
    ]
    turned = Leg(
        "copy", (5, n_channels), Way(0, 0, (n_channels, 1)), Way(0, 0, (1, 5)), Way(0, 0, (1, 5))
    )
    kernel = WalkKernel((5, n_channels), (5 * n_channels,), [turned], None, steps)
    x, residual = numbers(3, 5 * n_channels), numbers(3, 5, n_channels, seed=9)
    check(kernel, x, residuals=(residual,), n_threads=2)


def test_many_numbers_on_threads():
    n = 300
    way = Way(0, 0, (n, 1))
    leg = Leg("multiply", (n, n), way, Way(0, 0, (1, n)), Way(1, 0, (0, 1)))
    check(WalkKernel((n, n), (n * n, n), [leg]), numbers(2, n * n), numbers(2, n), n_threads=3)


ONE = Way(0, 0, (1,))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: WalkKernel((4,), (3,), [in_a_row("copy", 4)]), "`first`: expected places below 3"),
        (lambda: WalkKernel((3,), (4,), [in_a_row("copy", 4)]), "`to`: expected places below 3"),
        (
            lambda: WalkKernel((4,), (4,), [Leg("copy", (4,), ONE, ONE, Way(1, 0, (1,)))]),
            "`second`: expected one of 1 tensors",
        ),
        (
            lambda: WalkKernel((4,), (4,), [Leg("copy", (4,), ONE, Way(-1, 0, (1,)), ONE)]),
            "`first`: expected places below 0",
        ),
        (
            lambda: WalkKernel((4,), (4,), [Leg("copy", (4,), ONE, Way(0, 2, (-1,)), ONE)]),
            "`first`: expected places below 4, got -1 to 2",
        ),
        (
            lambda: WalkKernel((4,), (4,), [Leg("sum", (4,), ONE, ONE, ONE, 2, 1)]),
            "`first`: expected places below 4, got 0 to 4",
        ),
        (lambda: WalkKernel((4,), (4,), [Leg("power", (4,), ONE, ONE, ONE)]), "expected a leg of"),
        (
            lambda: WalkKernel((1,), (1,), [Leg("copy", (1,) * 9, ONE, ONE, ONE)]),
            "expected 1 to 8 axes, got 9",
        ),
    ],
)
def test_places_outside_are_refused(make, expected):
    with pytest.raises(UsageError, match=expected.replace("(", r"\(")):
        make()
