"""`simplify` makes the list shorter and changes no bit of any result."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irbin.kernels.reference import apply_steps
from irbin.kernels.steps import Step, simplify, split

N_CHANNELS = 7
BORDER_VALUES = np.array(
    [0.0, -0.0, 1e-45, 1e-38, 2.0**-126, 3e38, np.inf, -np.inf, np.nan], np.float32
)
SAMPLE = np.random.default_rng(0).integers(-(2**24), 2**24, 200)
DOTS = np.unique([*range(-300, 301), *SAMPLE, *(s * 2**e for s in (-1, 1) for e in range(25))])


def usual(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(N_CHANNELS).astype(np.float32)


def powers(seed: int, first: int = -126, last: int = 127) -> np.ndarray:
    rng = np.random.default_rng(seed)
    signs = rng.choice([-1, 1], N_CHANNELS)
    return np.ldexp(signs, rng.integers(first, last + 1, N_CHANNELS)).astype(np.float32)


def tricky(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.where(
        rng.random(N_CHANNELS) < 0.3, rng.choice(BORDER_VALUES, N_CHANNELS), usual(seed)
    )


def results(steps: tuple[Step, ...]) -> np.ndarray:
    """The bits of what the steps make of dots up to 2^24; one bit pattern for every NaN."""
    dots = np.broadcast_to(DOTS[:, None], (len(DOTS), N_CHANNELS)).astype(np.float32)
    y = apply_steps(dots, steps, ())
    return np.where(np.isnan(y), np.float32(np.nan), y).view(np.int32)


@st.composite
def steps_lists(draw: st.DrawFn) -> tuple[Step, ...]:
    made = []
    for kind in draw(
        st.lists(st.sampled_from(("multiply", "multiply", "add", "prelu")), max_size=4)
    ):
        choice = draw(st.sampled_from(("usual", "few powers", "powers", "ones", "tricky")))
        seed = draw(st.integers(0, 2**32 - 1))
        values = {
            "usual": usual(seed),
            "few powers": powers(seed, -10, 2),
            "powers": powers(seed),
            "ones": np.ones(N_CHANNELS, np.float32),
            "tricky": tricky(seed),
        }
        made.append(Step(kind, values[choice]))
    return tuple(made)


@pytest.mark.slow
@given(steps=steps_lists())
@settings(deadline=None, derandomize=True, max_examples=400)
def test_changes_no_bit(steps):
    with np.errstate(all="ignore"):  # a product of two vectors may leave float32's range
        simple = simplify(steps)
    assert len(simple) <= len(steps)
    assert np.array_equal(results(simple), results(steps))


def test_a_product_with_ones_goes_away():
    ones, bias = Step("multiply", np.ones(N_CHANNELS, np.float32)), Step("add", usual(0))
    assert simplify([ones, bias, ones]) == (bias,)


def test_powers_of_two_move_into_the_next_product():
    first, second, bias = Step("multiply", powers(0, -9, 3)), Step("multiply", usual(1)), usual(2)
    second.vector[0] = 0
    product, add = simplify([first, second, Step("add", bias)])
    assert product.kind == "multiply"
    assert np.array_equal(product.values, first.values * second.values)
    assert add.values is bias


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (usual(0), usual(1)),
        (powers(0, -9, 3), np.full(N_CHANNELS, 1e-40, np.float32)),
        (np.full(N_CHANNELS, 2.0**-100, np.float32), np.full(N_CHANNELS, 1e-10, np.float32)),
        (np.full(N_CHANNELS, 2.0**110, np.float32), usual(1)),
        (np.full(N_CHANNELS, 2.0**100, np.float32), np.full(N_CHANNELS, 3e38, np.float32)),
        (powers(0, -9, 3), np.full(N_CHANNELS, np.nan, np.float32)),
    ],
    ids=["no powers", "denormal", "underflow", "overflow", "infinite product", "nan"],
)
def test_other_products_stay_two(first, second):
    steps = (Step("multiply", first), Step("multiply", second))
    with np.errstate(all="ignore"):
        assert simplify(steps) == steps


WRITE = Step("write")


def test_steps_are_split_at_the_first_write():
    product, bias = Step("multiply", usual(0)), Step("add", usual(1))
    assert split(()) == ((), ())
    assert split([product, bias]) == ((product, bias), ())
    assert split([product, WRITE, bias]) == ((product,), (bias,))
    assert split([WRITE]) == ((), ())
    assert split([WRITE, bias, WRITE]) == ((), (bias, WRITE))


def test_a_write_computes_nothing():
    steps = (Step("multiply", usual(0)), WRITE, Step("add", usual(1)))
    assert np.array_equal(results(steps), results(steps[::2]))


def test_products_do_not_move_past_a_write():
    """What is written is the first one's."""
    first, ones = Step("multiply", powers(0, -9, 3)), np.ones(N_CHANNELS, np.float32)
    second = Step("multiply", usual(1))
    assert simplify([first, WRITE, second]) == (first, WRITE, second)
    assert simplify([first, WRITE, Step("multiply", ones)]) == (first, WRITE)
