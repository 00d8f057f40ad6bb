"""What follows the sums, in every kernel and implementation, bit for bit as the reference has it.

Two freedoms: which NaN it is, and the sign of a zero that met another zero in a clamp or a maximum.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irbin.bits import tail_is_zero
from irbin.kernels import reference
from irbin.kernels.convolution import ConvKernel
from irbin.kernels.geometry import Geometry
from irbin.kernels.kernel import Kernel
from irbin.kernels.passes import PoolKernel, RowsKernel
from irbin.kernels.steps import Step
from irbin.kernels.thresholds import find_thresholds

BORDERS = (1, 7, 8, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 70, 97, 128)
TRICKY = np.array(
    [0.0, -0.0, 1e-45, -1e-45, 1e-38, -1e-38, 3e38, -3e38, np.inf, -np.inf, np.nan], np.float32
)

pytestmark = pytest.mark.usefixtures("implementation")


def floats(*shape: int, seed: int = 0) -> np.ndarray:
    """Usual numbers, one in eight of them tricky."""
    rng = np.random.default_rng(seed)
    usual = rng.standard_normal(shape).astype(np.float32)
    return np.where(rng.random(shape) < 1 / 8, rng.choice(TRICKY, shape), usual)


def steps_of(recipe: str, n_channels: int, seed: int = 0) -> tuple[Step, ...]:
    """The steps that a recipe names: "multiply add residual0 clamp"."""
    made = []
    for i, name in enumerate(recipe.split()):
        if name.startswith("residual"):
            made.append(Step("residual", residual=int(name.removeprefix("residual"))))
        elif name.startswith("part"):
            before, n = n_channels // 3, -(-n_channels // 2)
            number = int(name.removeprefix("part"))
            made.append(Step("residual", residual=number, before=before, channels=n))
        elif name == "clamp":
            made.append(Step("clamp", low=-1.5, high=6.0))
        elif name == "relu":
            made.append(Step("clamp", low=0.0, high=np.inf))
        elif name == "write":
            made.append(Step("write"))
        else:
            made.append(Step(name, floats(n_channels, seed=seed + i)))
    return tuple(made)


RECIPES = (
    "",
    "multiply",
    "add",
    "multiply add",
    "multiply add clamp",
    "multiply add residual0",
    "multiply add residual0 relu",
    "residual0 relu",
    "relu",
    "clamp",
    "prelu",
    "add prelu add",
    "multiply multiply add",
    "residual1 prelu residual0 add clamp",
    "multiply add residual0 prelu multiply add relu residual3 residual2 residual1",
    "multiply add residual0 add prelu add",  # RPReLU
    "multiply add residual0 add prelu add write add",  # … and the thresholds of a next layer
    "multiply add residual0 clamp write add",
    "write add",
    "multiply add clamp write multiply prelu add",
    "multiply write",
    "multiply add part0 relu",  # as many channels as there are between zeros
    "part1 prelu residual0 part2 write add",
)
BEFORE = tuple(r for r in RECIPES if not any(w in r for w in ("residual", "part", "write")))


def assert_equals_definition(kernel: Kernel, x: np.ndarray, n_threads: int = 1) -> None:
    """Runs `kernel` for values, for bits and for both: all must be what the reference gives."""
    shape = kernel._out_shape(len(x))
    packed = (*shape[:-1], -(-shape[-1] // 8))
    shapes = kernel._residual_shapes(shape)
    residuals = [floats(*one, seed=100 + i) for i, one in enumerate(shapes)]
    expected, expected_bits = np.empty(shape, np.float32), np.empty(packed, np.uint8)
    kernel.define(x, residuals, expected, expected_bits)
    assert tail_is_zero(expected_bits, shape[-1])
    for wanted in ("y", "bits", "both") if getattr(kernel, "can_pack", True) else ("y",):
        y = None if wanted == "bits" else np.full(shape, 123, np.float32)
        bits = None if wanted == "y" else np.full(packed, 0xA5, np.uint8)
        kernel(x, residuals, y, bits, n_threads)
        if bits is not None:
            assert np.array_equal(bits, expected_bits)
        if y is None:
            continue
        assert np.array_equal(y, expected, equal_nan=True)
        if not isinstance(kernel, PoolKernel) and all(s.kind != "clamp" for s in kernel.steps):
            number = ~np.isnan(y)
            assert np.array_equal(np.signbit(y[number]), np.signbit(expected[number]))


def random_conv(
    n_out: int, recipe: str, geometry: Geometry, n_in: int = 33, groups: int = 1
) -> ConvKernel:
    rng = np.random.default_rng(n_out)
    w = rng.standard_normal((n_out, *geometry.kernel, n_in // groups)).astype(np.float32)
    steps = steps_of(recipe, n_out)
    return ConvKernel(reference.bitpack(w, 3), geometry, n_in, groups, steps)


def random_input(kernel: ConvKernel, batch: int) -> np.ndarray:
    rng = np.random.default_rng(batch)
    shape = (batch, *kernel.geometry.size, kernel.in_channels)
    return reference.bitpack(rng.standard_normal(shape).astype(np.float32), 3, kernel.groups)


class TestConvKernel:
    @pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: r or "nothing")
    def test_steps_are_the_references(self, recipe):
        for n_out in BORDERS:
            kernel = random_conv(n_out, recipe, Geometry((3, 5), (3, 3), border=(1, 1, 1, 1)))
            assert_equals_definition(kernel, random_input(kernel, 2))

    @pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: r or "nothing")
    def test_steps_of_a_pointwise_layer_are_the_references(self, recipe):
        for size in ((1, 1), (3, 30), (1, 131)):
            kernel = random_conv(48, recipe, Geometry(size, (1, 1)), n_in=64)
            for batch in (0, 1, 3):
                assert_equals_definition(kernel, random_input(kernel, batch))

    @pytest.mark.parametrize("per_group", [3, 8, 16, 24, 40])
    def test_groups_end_where_their_channels_end(self, per_group):
        kernel = random_conv(
            3 * per_group, "multiply add residual0 relu", Geometry((4, 5), (2, 2)), 21, 3
        )
        assert kernel.can_pack == (per_group % 8 == 0)
        assert_equals_definition(kernel, random_input(kernel, 2))

    @pytest.mark.parametrize("recipe", ["multiply add relu", "prelu"])
    def test_threads_give_what_the_reference_gives(self, recipe):
        geometry = Geometry((12, 70), (3, 3), border=(1, 1, 1, 1))
        kernel = random_conv(48, recipe, geometry, n_in=128)
        assert_equals_definition(kernel, random_input(kernel, 2), n_threads=3)

    @pytest.mark.parametrize("n_out", [7, 16, 33, 64])
    @pytest.mark.parametrize("n_in", [33, 64], ids=["gathered", "whole words"])
    @pytest.mark.parametrize("recipe", ["", "multiply add", "multiply add clamp"])
    def test_thresholds_are_the_signs_of_the_steps(self, recipe, n_in, n_out):
        rng = np.random.default_rng(0)
        steps = [
            s
            if s.values is None
            else Step(s.kind, (30 * rng.standard_normal(n_out)).astype(np.float32))
            for s in steps_of(recipe, n_out)
        ]
        geometry = Geometry((5, 70), (3, 3), border=(1, 1, 1, 1))
        weight_bits = random_conv(n_out, "", geometry, n_in).weight_bits
        by_steps = ConvKernel(weight_bits, geometry, n_in, 1, steps)
        thresholds = find_thresholds(steps, 9 * n_in, n_out)
        assert thresholds is not None
        by_thresholds = ConvKernel(weight_bits, geometry, n_in, 1, steps, thresholds)
        x = random_input(by_steps, 2)
        found = np.full((2, *geometry.out_size, -(-n_out // 8)), 0xA5, np.uint8)
        expected = np.empty_like(found)
        by_thresholds(x, (), None, found)
        by_steps(x, (), None, expected)
        assert 0 < np.bitwise_count(expected).sum() < 2 * 5 * 70 * n_out
        assert np.array_equal(found, expected)
        assert tail_is_zero(found, n_out)

    @pytest.mark.parametrize("n_out", BORDERS)
    def test_what_stands_at_a_write_is_the_result_and_the_signs_are_of_the_end(self, n_out):
        geometry = Geometry((3, 5), (3, 3), border=(1, 1, 1, 1))
        value, signs = "multiply add residual0 prelu", "multiply add"
        both = random_conv(n_out, f"{value} write {signs}", geometry)
        steps = [step for step in both.steps if step.kind != "write"]
        apart = [ConvKernel(both.weight_bits, geometry, 33, 1, some) for some in (steps[:4], steps)]
        x, residual = random_input(both, 2), floats(2, 3, 5, n_out)
        y, expected = np.empty((2, *residual.shape), np.float32)
        bits, expected_bits = np.empty((2, 2, 3, 5, -(-n_out // 8)), np.uint8)
        both(x, [residual], y, bits)
        apart[0](x, [residual], expected)
        apart[1](x, [residual], None, expected_bits)
        assert np.array_equal(y, expected, equal_nan=True)
        assert np.array_equal(bits, expected_bits)
        assert not np.array_equal(bits, reference.bitpack(y, 3))

    def test_a_residual_may_be_written_over(self):
        kernel = random_conv(48, "multiply add residual0 prelu write add", Geometry((4, 9), (1, 1)))
        x, residual = random_input(kernel, 2), floats(2, 4, 9, 48)
        expected, bits = np.empty_like(residual), np.empty((2, 2, 4, 9, 6), np.uint8)
        kernel.define(x, [residual], expected, bits[0])
        kernel(x, [residual], residual, bits[1])
        assert np.array_equal(residual, expected, equal_nan=True)
        assert np.array_equal(*bits)


class TestRowsKernel:
    @pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: r or "nothing")
    def test_steps_are_the_references(self, recipe):
        for n_channels in BORDERS:
            kernel = RowsKernel(n_channels, steps_of(recipe, n_channels))
            for n_rows in (0, 1, 4, 7):
                assert_equals_definition(kernel, floats(n_rows, n_channels, seed=n_rows))

    @pytest.mark.parametrize("n_channels", [1, 15, 16, 17, 33, 48])
    def test_a_residual_of_fewer_channels_is_one_with_zeros_around_them(self, n_channels):
        x = np.where(floats(5, n_channels, seed=1) < 0, np.float32(-0.0), floats(5, n_channels))
        for before in range(n_channels):
            for n in range(1, n_channels - before + 1):
                narrow = floats(5, n, seed=n)
                around = ((0, 0), (before, n_channels - before - n))
                made, wanted = np.empty_like(x), np.empty_like(x)
                part = Step("residual", before=before, channels=n)
                RowsKernel(n_channels, [part])(x, [narrow], made)
                RowsKernel(n_channels, [Step("residual")])(x, [np.pad(narrow, around)], wanted)
                number = ~np.isnan(wanted)
                assert np.array_equal(np.isnan(made), ~number)
                assert np.array_equal(made[number].view(np.int32), wanted[number].view(np.int32))

    def test_threads_give_what_the_reference_gives(self):
        kernel = RowsKernel(65, steps_of("multiply add residual0 part1 relu", 65))
        assert_equals_definition(kernel, floats(7001, 65), n_threads=3)

    def test_a_result_may_replace_its_input(self):
        kernel = RowsKernel(33, steps_of("multiply add prelu", 33))
        x, expected = floats(9, 33), np.empty((9, 33), np.float32)
        kernel.define(x, (), expected, None)
        kernel(x, (), x)
        assert np.array_equal(x, expected, equal_nan=True)


class TestPoolKernel:
    @pytest.mark.slow
    @given(
        batch=st.integers(0, 3),
        size=st.tuples(st.integers(1, 8), st.integers(1, 9)),
        kernel=st.tuples(st.integers(1, 4), st.integers(1, 3)),
        stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
        border=st.tuples(*[st.integers(0, 3)] * 4),
        dilation=st.tuples(st.integers(1, 3), st.integers(1, 2)),
        n_channels=st.one_of(st.sampled_from(BORDERS), st.integers(1, 70)),
        before=st.sampled_from(BEFORE),
        after=st.sampled_from(RECIPES),
        n_threads=st.sampled_from((1, 2)),
    )
    @settings(deadline=None, derandomize=True, max_examples=150)
    def test_the_largest_of_each_window(
        self, batch, size, kernel, stride, border, dilation, n_channels, before, after, n_threads
    ):
        border = tuple(min(b, kernel[1 - i // 2] - 1) for i, b in enumerate(border))
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
        height = max(size[0], reach[0] - border[2] - border[3])
        width = max(size[1], reach[1] - border[0] - border[1])
        pool = PoolKernel(
            Geometry((height, width), kernel, stride, border, dilation),
            n_channels,
            steps_of(before, n_channels),
            steps_of(after, n_channels, seed=50),
        )
        assert_equals_definition(pool, floats(batch, height, width, n_channels), n_threads)

    def test_a_window_in_the_border_alone_gives_minus_infinity(self):
        geometry = Geometry((1, 1), (2, 2), border=(1, 1, 1, 1), dilation=(2, 2))
        y, bits = np.empty((1, 1, 1, 3), np.float32), np.empty((1, 1, 1, 1), np.uint8)
        PoolKernel(geometry, 3)(np.ones((1, 1, 1, 3), np.float32), (), y, bits)
        assert y.tolist() == [[[[-np.inf] * 3]]]
        assert bits.tolist() == [[[[0b111]]]]

    def test_threads_give_what_the_reference_gives(self):
        geometry = Geometry((50, 41), (3, 3), (2, 2), (1, 1, 1, 1))
        pool = PoolKernel(geometry, 65, steps_of("multiply add", 65), steps_of("add", 65))
        assert_equals_definition(pool, floats(2, 50, 41, 65), n_threads=3)

    @pytest.mark.parametrize("before", ["", "multiply add relu", "prelu"])
    @pytest.mark.parametrize("n_out", [3, 16, 33])
    @pytest.mark.parametrize("size", [(5, 6), (11, 70)], ids=["5x6", "11x70"])
    def test_a_producer_gives_what_two_kernels_give(self, size, n_out, before):
        conv = random_conv(n_out, before, Geometry(size, (3, 3), border=(1, 1, 1, 1)))
        geometry = Geometry(conv.geometry.out_size, (3, 2), (2, 2), (1, 0, 1, 1))
        steps = steps_of("multiply add residual0", n_out)
        for batch in (0, 1, 3):
            x = random_input(conv, batch)
            between = np.empty((batch, *size, n_out), np.float32)
            conv(x, (), between)
            residual = floats(batch, *geometry.out_size, n_out)
            apart, together = np.empty_like(residual), np.empty_like(residual)
            PoolKernel(geometry, n_out, (), steps)(between, [residual], apart)
            pool = PoolKernel(geometry, n_out, (), steps, producer=conv)
            pool(x, [residual], together, n_threads=2)
            assert np.array_equal(together, apart, equal_nan=True)
            assert_equals_definition(pool, x)
