"""`ops.bconv2d` against its definition, for every implementation: integers, so exactly."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irbin.kernels import ops, reference

BORDERS = (1, 7, 8, 31, 32, 33, 63, 64, 65, 97, 128)

pytestmark = pytest.mark.usefixtures("implementation")


class Problem(NamedTuple):
    batch: int
    size: tuple[int, int]
    in_channels: int
    out_channels: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    border: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    n_threads: int = 1
    seed: int = 0


def pairs(first: int, last: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(first, last), st.integers(first, last))


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    kernel, dilation = draw(pairs(1, 4)), draw(pairs(1, 2))
    border = draw(st.one_of(st.just((0, 0, 0, 0)), st.tuples(*[st.integers(0, 3)] * 4)))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    height = max(draw(st.integers(1, 7)), reach[0] - sum(border[2:]))
    width = draw(st.one_of(st.integers(1, 9), st.integers(60, 150)))  # one strip or several
    width = max(width, reach[1] - sum(border[:2]))
    groups = draw(st.sampled_from((1, 1, 2, 3)))
    channels = draw(st.one_of(st.sampled_from(BORDERS), st.integers(1, 140)))
    return Problem(
        batch=draw(st.integers(0, 3)),
        size=(height, width),
        in_channels=groups * channels,
        out_channels=groups * draw(st.one_of(st.sampled_from((8, 16, 32)), st.integers(1, 40))),
        kernel=kernel,
        stride=draw(pairs(1, 3)),
        border=border,
        dilation=dilation,
        groups=groups,
        n_threads=draw(st.sampled_from((1, 2))),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


def random_bits(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Activations and weights of a problem, packed."""
    rng, per_group = np.random.default_rng(problem.seed), problem.in_channels // problem.groups
    signs = np.array([-1, 1], np.float32)
    x = rng.choice(signs, (problem.batch, *problem.size, problem.in_channels))
    w = rng.choice(signs, (problem.out_channels, *problem.kernel, per_group))
    return reference.bitpack(x, 3, problem.groups), reference.bitpack(w, 3)


def assert_equals_definition(problem: Problem) -> None:
    bits, weight_bits = random_bits(problem)
    _, _, in_channels, _, _, *geometry, n_threads, _ = problem
    y = ops.bconv2d(bits, weight_bits, None, None, in_channels, *geometry, n_threads)
    assert y.dtype == np.float32
    assert np.array_equal(y, reference.bconv2d_dot(bits, weight_bits, in_channels, *geometry))


@pytest.mark.slow
@given(problem=problems())
@settings(deadline=None, derandomize=True, max_examples=200)
def test_dot_equals_definition(problem):
    assert_equals_definition(problem)


@pytest.mark.parametrize("out_channels", [16, 33])
@pytest.mark.parametrize("in_channels", BORDERS)
def test_zero_padding_contributes_nothing_for_any_channel_count(in_channels, out_channels):
    assert_equals_definition(
        Problem(2, (5, 4), in_channels, out_channels, (3, 3), border=(1, 1, 1, 1))
    )


@pytest.mark.parametrize(
    "problem",
    [
        Problem(1, (1, 62), 4096, 16, border=(0, 3, 0, 0)),
        Problem(1, (1, 62), 1100, 3, border=(0, 3, 0, 0)),
        Problem(1, (1, 1), 1100, 3, border=(150, 150, 0, 0)),
        Problem(2, (4, 6), 64, 33, (2, 2), (2, 3), (9, 8, 5, 6), (1, 2)),
        Problem(1, (2, 3), 65, 9, (3, 3), (1, 1), (7, 7, 7, 7)),
    ],
    ids=["behind a row", "behind a gathered row", "rows of border", "strides in it", "all round"],
)
def test_a_border_may_be_wider_than_the_window(problem):
    assert_equals_definition(problem)


@pytest.mark.parametrize(
    "problem",
    [
        Problem(2, (12, 70), 128, 33, (3, 3), border=(1, 1, 1, 1), n_threads=3),
        Problem(2, (24, 41), 97, 48, (3, 3), (1, 2), (1, 0, 1, 1), n_threads=2),
        Problem(2, (20, 20), 128, 64, (3, 3), border=(1, 1, 1, 1), groups=2, n_threads=2),
        Problem(1, (3, 64), 128, 128, (3, 3), border=(1, 1, 0, 0), n_threads=2),
        Problem(1, (10, 13), 1024, 65, n_threads=2),
        Problem(1, (1, 1), 4096, 2100, n_threads=3),
    ],
    ids=["rows", "gathered rows", "groups", "channels", "pointwise", "one pixel"],
)
def test_threads_give_what_the_definition_gives(problem):
    assert_equals_definition(problem)


@pytest.mark.parametrize("offset", [1, 2, 3, 4])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3)], ids=["pointwise", "window"])
def test_bits_may_start_at_any_address(kernel, offset):
    problem = Problem(2, (6, 7), 64, 17, kernel)
    bits, weight_bits = random_bits(problem)
    memory = np.zeros(bits.size + offset, np.uint8)
    moved = memory[offset:].reshape(bits.shape)
    moved[...] = bits
    expected = reference.bconv2d_dot(bits, weight_bits, 64)
    assert np.array_equal(ops.bconv2d(moved, weight_bits, None, None, 64), expected)


def test_depthwise():
    assert_equals_definition(Problem(2, (6, 6), 12, 12, (3, 3), (2, 2), (1, 1, 1, 1), groups=12))


@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("scale", [False, True], ids=["no scale", "scale"])
def test_scale_and_bias_are_two_roundings(scale, bias):
    rng = np.random.default_rng(0)
    bits, weight_bits = random_bits(Problem(2, (5, 6), 97, 33, (3, 3)))
    scale_log2 = rng.integers(-126, 100, 33).astype(np.int8) if scale else None
    added = rng.standard_normal(33).astype(np.float32) if bias else None
    arguments = (bits, weight_bits, scale_log2, added, 97, (2, 1), (1, 1, 1, 1))
    assert np.array_equal(ops.bconv2d(*arguments), reference.bconv2d(*arguments))
