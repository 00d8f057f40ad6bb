"""Activations: the definition against float64 all over float32, every implementation against it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from irbin.binary.activations import SignKept
from irbin.kernels import activations, native, reference
from irbin.kernels.convolution import FloatConvKernel
from irbin.kernels.geometry import Geometry
from irbin.kernels.lines import GateKernel
from irbin.kernels.passes import RowsKernel
from irbin.kernels.steps import Step

INF, NAN = np.inf, np.nan
SMALLEST, NORMAL = 2.0**-149, 2.0**-126
SPECIAL = np.array(
    [INF, -INF, NAN, 0.0, -0.0, SMALLEST, -SMALLEST, NORMAL, -NORMAL, 3.4e38, -3.4e38], np.float32
)
KINDS = (*activations.DEFINITIONS, "elu")
KEPT = ("hold", "gelu", "keep")
erf = np.vectorize(math.erf, otypes=[np.float64])


def sample() -> np.ndarray:
    """Floats of every exponent and sign, more of them where functions bend, and the borders."""
    every = np.arange(0, 2**32, 65521, dtype=np.uint64).astype(np.uint32).view(np.float32)
    dense = np.linspace(-20, 20, 60001).astype(np.float32)
    ends = np.concatenate([np.linspace(at - 3, at + 3, 4001) for at in (-103, -88, 88)])
    nearly = [np.nextafter(np.float32(x), np.float32(to)) for x in (-3, 3, 88.7) for to in (-9, 99)]
    return np.concatenate([every, dense, ends.astype(np.float32), SPECIAL, np.float32(nearly)])


X = sample()


def exact_sigmoid(x: np.ndarray) -> np.ndarray:
    """In float64, without cancellation."""
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def errors(found: np.ndarray, exact: np.ndarray, beside: float = 0.0) -> np.ndarray:
    """In units in the last place of the exact result; an absolute one of `beside` is allowed."""
    assert np.array_equal(np.isnan(found), np.isnan(exact))
    finite = np.isfinite(exact) & (np.abs(exact) < 2.0**128)
    units = np.maximum(2.0 ** (np.frexp(exact[finite])[1] - 24.0), SMALLEST)
    return np.maximum(np.abs(found[finite] - exact[finite]) - beside, 0) / units


class TestBounds:
    """Those that the module states."""

    @pytest.fixture(autouse=True)
    def _quiet(self):
        with np.errstate(all="ignore"):
            yield

    def test_exp(self):
        found, exact = activations.exp(X), np.exp(X.astype(np.float64))
        assert errors(found, exact).max() < 1.2
        assert np.array_equal(np.isinf(found), exact > np.finfo(np.float32).max)

    def test_expm1(self):
        x = X[~(X > 30)]
        assert errors(activations.expm1(x), np.expm1(x.astype(np.float64))).max() < 2.2

    def test_tanh(self):
        found = activations.tanh(X)
        assert errors(found, np.tanh(X.astype(np.float64))).max() < 3
        assert np.abs(found[~np.isnan(found)]).max() == 1

    def test_erf(self):
        found = activations.erf(X)
        assert errors(found, erf(X.astype(np.float64))).max() < 7
        assert np.abs(found[~np.isnan(found)]).max() == 1

    def test_sigmoid(self):
        exact = exact_sigmoid(X.astype(np.float64))
        found = activations.sigmoid(X)
        assert errors(found[~(X < -88)], exact[~(X < -88)]).max() < 2.5
        assert errors(found, exact, beside=1.2e-38).max() < 2.5

    def test_silu(self):
        x = X[X > -INF]
        exact = x.astype(np.float64) * exact_sigmoid(x.astype(np.float64))
        found = activations.silu(x)
        assert errors(found[x > -88], exact[x > -88]).max() < 3
        assert errors(found, exact, beside=2.7e-37).max() < 3

    @pytest.mark.parametrize("form", ["gelu", "gelu_tanh"])
    def test_gelu(self, form):
        x = X[np.isfinite(X)]
        wide = x.astype(np.float64)
        inner = math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)
        exact = wide / 2 * (1 + (erf(wide / math.sqrt(2)) if form == "gelu" else np.tanh(inner)))
        error = np.abs(activations.DEFINITIONS[form](x) - exact)
        assert (error / np.maximum(1, np.abs(wide))).max() < 3e-7

    def test_mish(self):
        x = X[X > -INF]
        wide = x.astype(np.float64)
        softplus = np.where(wide > 0, wide, 0) + np.log1p(np.exp(-np.abs(wide)))
        exact = wide * np.tanh(softplus)
        found = activations.mish(x)
        assert errors(found[x > -88], exact[x > -88]).max() < 5
        assert errors(found, exact, beside=2.7e-37).max() < 5

    def test_elu(self):
        wide = X.astype(np.float64)
        exact = np.where(wide > 0, wide, np.expm1(np.minimum(wide, 0)))
        assert errors(activations.elu(X, np.float32(1)), exact).max() < 3

    @pytest.mark.parametrize("kind", ["hardsigmoid", "hardswish"])
    def test_straight_lines_are_torchs(self, kind):
        expected = getattr(F, kind)(torch.from_numpy(X)).numpy()
        assert np.array_equal(activations.DEFINITIONS[kind](X), expected, equal_nan=True)


def test_the_ends():
    with np.errstate(all="ignore"):
        for kind, low, high in (
            ("sigmoid", 0, 1),
            ("tanh", -1, 1),
            ("hardsigmoid", 0, 1),
            ("silu", NAN, INF),
            ("hardswish", NAN, INF),
            ("gelu", NAN, INF),
            ("gelu_tanh", NAN, INF),
            ("mish", NAN, INF),
        ):
            found = activations.DEFINITIONS[kind](SPECIAL)
            assert np.array_equal(found[:3], np.float32([high, low, NAN]), equal_nan=True)
            if kind not in ("sigmoid", "hardsigmoid"):
                assert np.array_equal(np.signbit(found[3:7]), [False, True, False, True])
                assert np.array_equal(found[3:5], [0, 0])
        assert np.array_equal(
            activations.elu(SPECIAL[:4], np.float32(2)), [INF, -2, NAN, 0], equal_nan=True
        )


@pytest.mark.parametrize("kind", ["silu", "hardswish", "gelu", "gelu_tanh", "mish"])
def test_what_is_kept_is_below_zero_where_its_input_is_and_nowhere_else(kind):
    with np.errstate(all="ignore"):
        y = activations.DEFINITIONS[kind](X)
        kept = activations.kept(y, X)
    told = ~np.isnan(y)
    assert np.array_equal((kept < 0)[told], (X < 0)[told])
    assert np.array_equal(np.isnan(kept), ~told)
    moved = told & (kept != y)
    assert np.abs(y[moved]).max() < 2.0**-126 < np.abs(kept[moved & (X < 0)]).max() * 2
    assert not np.signbit(kept[told & ~(X < 0)]).any()  # no −0


def test_what_is_kept_is_as_in_training():
    x = torch.from_numpy(X)
    for kind, module in (("gelu", torch.nn.GELU()), ("mish", torch.nn.Mish())):
        steps = [Step("hold"), Step(kind), Step("keep")]
        found = torch.from_numpy(reference.apply_steps(X, steps, ()))
        expected = SignKept(module)(x)
        told = ~expected.isnan() & (x < 1e38)  # torch's overflow earlier
        assert torch.equal(found[told] < 0, expected[told] < 0)
        assert torch.allclose(found[told], expected[told], atol=3e-6)


def test_they_are_torchs_within_rounding():
    x = torch.linspace(-12, 12, 5001)
    torchs = {"gelu_tanh": lambda x: F.gelu(x, approximate="tanh"), "tanh": torch.tanh}
    for kind, ours in activations.DEFINITIONS.items():
        expected = torchs.get(kind) or getattr(F, kind)
        assert torch.allclose(torch.from_numpy(ours(x.numpy())), expected(x), atol=1e-6)


def step(kind: str, n_channels: int) -> Step:
    slopes = np.random.default_rng(1).standard_normal(n_channels).astype(np.float32)
    return Step(kind, slopes if kind == "elu" else None)


def several(kinds: str | tuple[str, ...], n_channels: int) -> list[Step]:
    return [step(kind, n_channels) for kind in ((kinds,) if isinstance(kinds, str) else kinds)]


def same_bits(found: np.ndarray, expected: np.ndarray) -> bool:
    """But for which NaN it is."""
    nan = np.isnan(expected)
    return np.array_equal(np.isnan(found), nan) and np.array_equal(
        found[~nan].view(np.int32), expected[~nan].view(np.int32)
    )


@pytest.mark.usefixtures("implementation")
class TestEveryImplementation:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("n_channels", [1, 16, 33])
    def test_gives_the_definitions_bits_over_all_of_float32(self, kind, n_channels):
        x = np.resize(X, (-(-len(X) // n_channels), n_channels))
        kernel = RowsKernel(n_channels, [step(kind, n_channels)])
        y, expected = np.empty_like(x), np.empty_like(x)
        bits = np.empty((len(x), -(-n_channels // 8)), np.uint8)
        expected_bits = np.empty_like(bits)
        kernel.define(x, (), expected, expected_bits)
        kernel(x, (), y, bits)
        assert same_bits(y, expected)
        assert np.array_equal(bits, expected_bits)

    @pytest.mark.parametrize("kinds", [KEPT, ("hold", "silu", "keep"), ("hold", "keep")])
    @pytest.mark.parametrize("n_channels", [1, 16, 33])
    def test_keeps_the_definitions_bits(self, kinds, n_channels):
        x = np.resize(X, (-(-len(X) // n_channels), n_channels))
        kernel = RowsKernel(n_channels, [Step(kind) for kind in kinds])
        y, expected = np.empty_like(x), np.empty_like(x)
        kernel.define(x, (), expected, None)
        kernel(x, (), y)
        assert same_bits(y, expected)

    @pytest.mark.parametrize("kind", [*KINDS, KEPT], ids=str)
    def test_in_a_tile_between_other_steps(self, kind):
        """Whole blocks and a part of one, several pixels and a single one."""
        rng = np.random.default_rng(0)
        for n_out in (16, 32, 37):
            numbers = [rng.standard_normal(n_out).astype(np.float32) for _ in range(3)]
            steps = [
                Step("multiply", numbers[0]),
                Step("residual"),
                *several(kind, n_out),
                Step("add", numbers[1]),
                Step("write"),
                *several(kind, n_out),
                Step("add", numbers[2]),
            ]
            weight = rng.standard_normal((n_out, 1, 1, 3)).astype(np.float32)
            kernel = FloatConvKernel(weight, Geometry((1, 9), (1, 1)), steps)
            x = rng.standard_normal((2, 1, 9, 3)).astype(np.float32)
            residual = rng.standard_normal((2, 1, 9, n_out)).astype(np.float32)
            made = []
            for run in (kernel, kernel.define):
                y = np.empty_like(residual)
                bits = np.empty((2, 1, 9, -(-n_out // 8)), np.uint8)
                run(x, (residual,), y, bits)
                made.append((y, bits))
            assert same_bits(made[0][0], made[1][0])
            assert np.array_equal(made[0][1], made[1][1])


def test_without_an_implementation_the_definition_computes():
    kernel = GateKernel((2, 3), 5, "multiply", [Step("silu")])
    x, pixel = np.ones((1, 2, 3, 5), np.float32), np.full((1, 1, 1, 5), 2, np.float32)
    y = np.empty_like(x)
    with native.using(native.REFERENCE):
        kernel(x, (pixel,), y)
    assert np.array_equal(y, activations.silu(x * 2))
