"""Backward rules against their closed forms in double precision."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from irbin.binary.estimator import ESTIMATORS, ede_sign, sign, ste_sign

POINTS = torch.tensor([-3.0, -1.0, -0.5, -0.0, 0.0, 1e-30, 0.2, 1.0, 1.0001, 4.0]).double()


def gradient(
    name: str, x: torch.Tensor, t: float, k: float, r: torch.Tensor | None = None
) -> torch.Tensor:
    x = x.clone().requires_grad_()
    phase = (torch.tensor(value, dtype=torch.float64) for value in (t, k))
    ESTIMATORS[name](x, *phase, r).sum().backward()
    assert x.grad is not None
    return x.grad


@pytest.mark.parametrize("name", ESTIMATORS)
def test_forward_is_sign_whatever_the_phase(name: str) -> None:
    for t in (1e-3, 1.0, 10.0):
        y = ESTIMATORS[name](POINTS, torch.tensor(t), torch.tensor(1.0))
        assert torch.equal(y, sign(POINTS))


@pytest.mark.parametrize(("t", "k"), [(0.001, 1000.0), (0.1, 10.0), (1.0, 1.0), (10.0, 1.0)])
def test_ede_gradient_is_the_closed_form(t: float, k: float) -> None:
    x = POINTS.numpy()
    expected = k * t / np.cosh(t * x) ** 2  # 1 − tanh², which cancels
    np.testing.assert_allclose(gradient("ede", POINTS, t, k).numpy(), expected, rtol=1e-12)


def test_ste_gradient_is_one_inside_the_clip() -> None:
    assert gradient("ste", POINTS, 1.0, 1.0).tolist() == [0, 1, 1, 1, 1, 1, 1, 1, 0, 0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_ede_gradient_survives_half_precision(dtype: torch.dtype) -> None:
    x = torch.linspace(-2, 2, 41)
    half = gradient("ede", x.to(dtype), 0.1, 10.0)
    assert half.dtype == dtype
    torch.testing.assert_close(
        half.float(), gradient("ede", x.to(dtype).float(), 0.1, 10.0), rtol=0.01, atol=0
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_sign_keeps_type_and_follows_its_rule(dtype: torch.dtype) -> None:
    x = torch.tensor([-1.0, -0.0, 0.0, -1e-7, float("nan"), float("inf"), -float("inf")]).to(dtype)
    wanted = [-1, 1, 1, -1, 1, 1, -1]
    assert sign(x).tolist() == wanted
    assert sign(x).dtype == dtype
    assert sign(x.requires_grad_()).requires_grad is False


@pytest.mark.parametrize("t", [0.001, 1.0, 10.0, 1000.0])
def test_ede_gradient_far_from_zero_is_zero_and_never_nan(t: float) -> None:
    x = torch.tensor([float("inf"), -float("inf"), 1e30, -1e30])
    assert gradient("ede", x, t, max(1 / t, 1.0)).tolist() == [0, 0, 0, 0]


def test_no_gradient_reaches_the_phase() -> None:
    t, k = torch.tensor(1.0, requires_grad=True), torch.tensor(1.0, requires_grad=True)
    x = torch.ones(3, requires_grad=True)
    (ede_sign(x, t, k) + ste_sign(x, t, k)).sum().backward()
    assert t.grad is None
    assert k.grad is None


@pytest.mark.parametrize("shape", [(0,), (0, 3), (1,)], ids=str)
def test_empty_and_single_tensors_pass(shape: tuple[int, ...]) -> None:
    assert gradient("ede", torch.zeros(shape), 1.0, 1.0).shape == shape


def sech_squared(u: float) -> float:
    tail = math.exp(-2 * abs(u))
    return 4 * tail / (1 + tail) ** 2


CLOSED_FORMS: dict[str, Callable[[float, float, float], float]] = {
    "ede": lambda x, t, k: k * t * sech_squared(t * x),
    "ste": lambda x, t, k: float(abs(x) <= 1),
    "triangle": lambda x, t, k: max(0.0, 2 - 2 * abs(x)),
    "identity": lambda x, t, k: 1.0,
}
BORDERS = st.sampled_from([-0.0, 0.0, 1.0, -1.0, 5e-324, math.nextafter(1, 2), -math.inf, math.inf])


@pytest.mark.parametrize("name", ESTIMATORS)
@given(st.one_of(BORDERS, st.floats(-3, 3), st.floats(allow_nan=False)), st.floats(0.01, 100))
def test_the_gradient_is_the_closed_form(name: str, x: float, t: float) -> None:
    k = max(1 / t, 1.0)
    (found,) = gradient(name, torch.tensor([x], dtype=torch.float64), t, k).tolist()
    assert found == pytest.approx(CLOSED_FORMS[name](x, t, k), rel=1e-12, abs=1e-300)


@pytest.mark.parametrize("name", [name for name in ESTIMATORS if name != "identity"])
def test_a_nan_is_not_hidden_by_the_backward_pass(name: str) -> None:
    assert gradient(name, torch.tensor([math.nan]), 1.0, 1.0).isnan().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_a_triangle_is_rounded_once(dtype: torch.dtype) -> None:
    x = torch.linspace(-1.5, 1.5, 301).to(dtype)
    exact = (2 - 2 * x.double().abs()).clamp(min=0)
    found = gradient("triangle", x, 1.0, 1.0)
    assert found.dtype == dtype
    assert torch.equal(found, exact.to(dtype))


@pytest.mark.slow
@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_compiled_gradients_are_the_same(name: str, dtype: torch.dtype) -> None:
    x = torch.linspace(-2, 2, 41).to(dtype)
    phase = torch.tensor(3.0), torch.tensor(0.5)

    def through(sign_of: Callable[..., torch.Tensor]) -> torch.Tensor:
        leaf = x.clone().requires_grad_()
        (sign_of(leaf, *phase) * torch.arange(41)).sum().backward()
        assert leaf.grad is not None
        return leaf.grad

    plain = through(ESTIMATORS[name])
    assert torch.equal(through(torch.compile(ESTIMATORS[name], backend="aot_eager")), plain)


def test_no_gradient_is_written_into() -> None:
    for name in ESTIMATORS:
        x, grad = torch.tensor([-0.5, 0.5], requires_grad=True), torch.tensor([3.0, 3.0])
        ESTIMATORS[name](x, torch.tensor(1.0), torch.tensor(1.0)).backward(grad)
        assert grad.tolist() == [3, 3]
        assert x.tolist() == [-0.5, 0.5]


WITH_SPREAD = [name for name in ESTIMATORS if name != "identity"]
FACTOR = st.floats(0.01, 320.0)


@pytest.mark.parametrize("name", WITH_SPREAD)
@given(st.one_of(BORDERS, st.floats(-3, 3)), st.floats(0.01, 100), FACTOR)
def test_with_a_factor_the_slope_is_that_at_the_product_times_it(
    name: str, x: float, t: float, r: float
) -> None:
    k = max(1 / t, 1.0)
    leaf, factor = (torch.tensor([v], dtype=torch.float64) for v in (x, r))
    (found,) = gradient(name, leaf, t, k, factor).tolist()
    assert found == pytest.approx(CLOSED_FORMS[name](x * r, t, k) * r, rel=1e-11, abs=1e-300)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_factor_changes_no_sign(name: str) -> None:
    x = torch.tensor([-math.inf, -1.0, -5e-324, -0.0, 0.0, 5e-324, math.inf, math.nan]).double()
    for r in (1e-30, 0.3, 320.0):
        phase = torch.tensor(1.0), torch.tensor(1.0), torch.tensor(r).double()
        assert torch.equal(ESTIMATORS[name](x, *phase), sign(x))


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_SPREAD)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_factor_an_image_is_compiled_and_keeps_the_type(name: str, dtype: torch.dtype) -> None:
    x = torch.linspace(-2, 2, 48).view(2, 3, 2, 4).to(dtype)
    r = torch.tensor([0.5, 3.0]).view(2, 1, 1, 1).to(dtype)
    phase = torch.tensor(3.0), torch.tensor(0.5)

    def through(sign_of: Callable[..., torch.Tensor]) -> torch.Tensor:
        leaf = x.clone().requires_grad_()
        sign_of(leaf, *phase, r).float().sum().backward()
        assert leaf.grad is not None
        return leaf.grad

    plain = through(ESTIMATORS[name])
    assert plain.dtype == dtype
    by_image = [gradient(name, x[i].double(), 3.0, 0.5, r[i].double()) for i in range(2)]
    tolerance = 1e-5 if dtype == torch.float32 else 0.03
    edge = (x * r).abs().sub(1).abs() < 0.02  # rounding may take it to either side
    wanted = torch.stack(by_image).where(~edge, plain.double())
    torch.testing.assert_close(plain.double(), wanted, rtol=tolerance, atol=tolerance)
    assert torch.equal(through(torch.compile(ESTIMATORS[name], backend="aot_eager")), plain)
