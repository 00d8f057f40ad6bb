"""A threshold is the sign of the steps on every dot there can be, or there is none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irbin.kernels.reference import apply_steps
from irbin.kernels.steps import Step
from irbin.kernels.thresholds import Thresholds, find_thresholds

N_CHANNELS = 11
BORDER_VALUES = np.array(
    [0.0, -0.0, 1.0, -1.0, 1e-45, -1e-45, 1e-38, -1e-38, 2.0**-126, 3e38, -3e38], np.float32
)


def finite(seed: int) -> np.ndarray:
    """A value per channel: usual ones, large ones, and those at float32's ends."""
    rng = np.random.default_rng(seed)
    usual = rng.standard_normal(N_CHANNELS) * 10.0 ** rng.integers(-3, 4, N_CHANNELS)
    tricky = rng.choice(BORDER_VALUES, N_CHANNELS)
    return np.where(rng.random(N_CHANNELS) < 0.3, tricky, usual).astype(np.float32)


@st.composite
def steps_lists(draw: st.DrawFn) -> tuple[Step, ...]:
    made = []
    for kind in draw(st.lists(st.sampled_from(("multiply", "add", "clamp", "prelu")), max_size=5)):
        values = finite(draw(st.integers(0, 2**32 - 1)))
        if kind == "clamp":
            low, high = draw(st.sampled_from([(0, 6), (-1, 1), (-np.inf, 2), (0, np.inf), (3, 5)]))
            made.append(Step("clamp", low=low, high=high))
        else:
            made.append(Step(kind, np.abs(values) if kind == "prelu" else values))
    return tuple(made)


def every_dot(depth: int) -> np.ndarray:
    return np.arange(-depth, depth + 1, dtype=np.int32)[:, None]


def values(steps: tuple[Step, ...], depth: int) -> np.ndarray:
    """What the steps make of every dot: (dots, channels)."""
    dots = np.broadcast_to(every_dot(depth), (2 * depth + 1, N_CHANNELS))
    return apply_steps(dots.astype(np.float32), steps, ())


def bits(found: Thresholds, depth: int) -> np.ndarray:
    """bit = (dot < lower) xor flip, as `thresholds.py` says: (dots, channels)."""
    lower, flips = found
    return (every_dot(depth) < lower) ^ np.unpackbits(flips, bitorder="little")[:N_CHANNELS] > 0


@pytest.mark.slow
@given(steps=steps_lists(), depth=st.integers(1, 400))
@settings(deadline=None, derandomize=True, max_examples=400)
def test_gives_the_sign_of_the_steps_on_every_dot(steps, depth):
    found, expected = find_thresholds(steps, depth, N_CHANNELS), values(steps, depth)
    if found is None:
        assert np.isnan(expected).any()
    else:
        assert np.array_equal(bits(found, depth), expected < 0)


@pytest.mark.parametrize(
    "multiplier", [0.0, -0.0, 1e-45, -1e-45, 1e-38, 0.3, -0.3, 1e30, -1e30, 3e38, -3e38]
)
@pytest.mark.parametrize("bias", [0.0, -0.0, 1e-45, -1e-45, 0.7, -0.7, 100.0, -3e38])
def test_a_product_and_a_sum_always_have_thresholds(multiplier, bias):
    steps = (
        Step("multiply", np.full(N_CHANNELS, multiplier, np.float32)),
        Step("add", np.full(N_CHANNELS, bias, np.float32)),
    )
    found = find_thresholds(steps, 200, N_CHANNELS)
    assert found is not None
    assert np.array_equal(bits(found, 200), values(steps, 200) < 0)


def test_holds_up_to_the_largest_dot():
    depth = 2**24
    steps = (Step("add", np.linspace(-depth, depth, N_CHANNELS).astype(np.float32)),)
    found = find_thresholds(steps, depth, N_CHANNELS)
    assert found is not None
    lower, flips = found
    assert lower.dtype == np.int32
    assert not flips.any()
    at = apply_steps(lower.astype(np.float32), steps, ())
    below = apply_steps((lower - 1).astype(np.float32), steps, ())
    assert (at >= 0).all()
    assert (below[lower > -depth] < 0).all()


def test_a_write_changes_no_threshold():
    """Where nobody reads what is written."""
    steps = (Step("multiply", finite(0)), Step("add", finite(1)))
    wanted = find_thresholds(steps, 50, N_CHANNELS)
    found = find_thresholds((steps[0], Step("write"), steps[1]), 50, N_CHANNELS)
    assert wanted is not None
    assert found is not None
    assert all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_unused_flips_are_zero():
    steps = (Step("multiply", np.full(N_CHANNELS, -1, np.float32)),)
    found = find_thresholds(steps, 5, N_CHANNELS)
    assert found is not None
    assert found[1].tolist() == [0xFF, 0b111]


@pytest.mark.parametrize(
    "step",
    [
        Step("residual"),
        Step("multiply", np.full(N_CHANNELS, np.nan, np.float32)),
        Step("multiply", np.full(N_CHANNELS, np.inf, np.float32)),
        Step("add", np.full(N_CHANNELS, -np.inf, np.float32)),
        Step("prelu", np.full(N_CHANNELS, -0.25, np.float32)),
        Step("clamp", low=1, high=-1),
        Step("clamp", low=np.nan, high=1),
        Step("clamp", low=0, high=np.nan),
    ],
    ids=[
        "residual",
        "nan",
        "infinite product",
        "infinite sum",
        "negative slope",
        "empty clamp",
        "clamp from nan",
        "clamp to nan",
    ],
)
def test_there_are_none_where_no_threshold_is_sure(step):
    assert find_thresholds((step,), 9, N_CHANNELS) is None


def test_there_are_none_where_a_dot_gives_nan():
    large, zero = (np.full(N_CHANNELS, v, np.float32) for v in (3e38, 0))
    steps = (Step("multiply", large), Step("multiply", zero))
    assert find_thresholds(steps, 1, N_CHANNELS) is not None
    assert find_thresholds(steps, 2, N_CHANNELS) is None
