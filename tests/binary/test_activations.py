"""RPReLU against its equation, its derivative, and the PReLU that it begins as."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from irbin.binary.activations import Composed, Place, RPReLU, SignKept, Step

SHAPES = [(3, 4), (2, 4, 5), (2, 4, 5, 3), (0, 4, 2, 2), (2, 4, 3, 2, 2)]


def trained(channels: int, seed: int = 0) -> RPReLU:
    """Offsets and slopes of both signs."""
    generator = torch.Generator().manual_seed(seed)
    act = RPReLU(channels, 0.25)
    with torch.no_grad():
        for parameter in act.parameters():
            parameter.copy_(torch.randn(channels, generator=generator))
    return act


def image(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)


def equation(x: float, offset: float, slope: float, out_offset: float) -> float:
    """ReActNet's, case by case."""
    if x > offset:
        return x - offset + out_offset
    return slope * (x - offset) + out_offset


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("channels", [4, 1], ids=["per channel", "shared"])
def test_is_the_papers_equation_channel_by_channel(shape: tuple[int, ...], channels: int) -> None:
    act, x = trained(channels).double(), image(*shape, dtype=torch.float64)
    y = act(x)
    assert y.shape == x.shape
    for c in range(4):
        learned = (act.in_offset, act.weight, act.out_offset)
        gamma, slope, zeta = (parameter[c % channels].item() for parameter in learned)
        values, results = x[:, c].flatten().tolist(), y[:, c].flatten().tolist()
        expected = [equation(value, gamma, slope, zeta) for value in values]
        assert results == pytest.approx(expected, abs=1e-12)


@given(st.floats(-4, 4, width=32), st.floats(-4, 4, width=32), st.floats(-4, 4, width=32))
def test_its_corner_lies_at_the_offsets(gamma: float, slope: float, zeta: float) -> None:
    act = RPReLU(1, slope)
    with torch.no_grad():
        act.in_offset.fill_(gamma)
        act.out_offset.fill_(zeta)
        assert act(torch.tensor([[gamma]])).item() == zeta


def test_begins_as_a_prelu() -> None:
    x = image(2, 4, 5, 3)
    prelu = nn.PReLU(4, 0.25)
    assert torch.equal(RPReLU(4, 0.25)(x), prelu(x))


def test_gradients_are_the_derivatives() -> None:
    act, x = trained(3).double(), image(2, 3, 4, dtype=torch.float64).requires_grad_()
    inputs = (x, act.in_offset, act.weight, act.out_offset)

    def run(x: Tensor, *parameters: Tensor) -> Tensor:
        names = ("in_offset", "weight", "out_offset")
        values = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(act, values, (x,))

    assert torch.autograd.gradcheck(run, inputs)


def test_special_values_are_a_prelus() -> None:
    x = torch.tensor([[0.0], [-0.0], [math.inf], [-math.inf], [math.nan]])
    y, expected = RPReLU(1, -0.5)(x), nn.PReLU(1, -0.5)(x)
    assert torch.equal(y[:-1], expected[:-1])
    assert bool(y[-1].isnan())


def test_never_writes_into_its_input() -> None:
    x = image(2, 4, 3, 3)
    before = x.clone()
    trained(4)(x)
    assert torch.equal(x, before)


class Types(TorchDispatchMode):
    """The types of all large tensors that are made."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[torch.dtype] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.numel() > 4:
            self.seen.add(result.dtype)
        return result


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_keeps_the_inputs_type_in_mixed_precision(dtype: torch.dtype) -> None:
    act = trained(4)
    with torch.autocast("cpu", dtype):
        x = image(2, 4, 3, 3, dtype=dtype).requires_grad_()
        with Types() as types:
            y = act(x)
    assert types.seen == {y.dtype} == {dtype}
    torch.testing.assert_close(y.float(), act(x.float()), rtol=0.03, atol=0.05)
    y.float().sum().backward()
    assert {p.grad.dtype for p in act.parameters() if p.grad is not None} == {torch.float32}
    assert x.grad is not None
    assert x.grad.dtype == dtype


def test_survives_copies_and_state_dicts() -> None:
    act = trained(4)
    assert set(act.state_dict()) == {"in_offset", "weight", "out_offset"}
    other = RPReLU(4, 0.25)
    other.load_state_dict(act.state_dict())
    x = image(2, 4)
    assert torch.equal(other(x), act(x))
    assert torch.equal(copy.deepcopy(act)(x), act(x))
    assert repr(act) == "RPReLU(channels=4)"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("inplace", [False, True])
def test_a_kept_sign_is_that_of_the_input_and_no_other_number_changes(
    dtype: torch.dtype, inplace: bool
) -> None:
    edges = [0.0, -0.0, 1e-30, -1e-30, 5.5, -5.5, 103.0, -103.0, 60000.0, -60000.0]
    x = torch.cat([torch.tensor(edges), torch.linspace(-8, 8, 1001)]).to(dtype)
    kept = SignKept(nn.SiLU(inplace=inplace))(x.clone())
    plain = nn.functional.silu(x)
    assert kept.dtype == dtype
    assert torch.equal(kept < 0, x < 0)
    large = plain.abs() > 1e-30
    assert torch.equal(kept[large], plain[large])
    assert float(kept[~large].abs().max()) <= 2**-24


NEAR = torch.cat([torch.logspace(-30, 2, 1001) * s for s in (-1, 1)])


@pytest.mark.parametrize("falls", [False, True])
def test_a_sign_that_rounding_turned_is_turned_back(falls: bool) -> None:
    stretch = (Step(torch.tanh, (Place(0),), {}), Step(torch.sub, (Place(1), Place(0)), {}))
    shrink = Composed(stretch, []) if falls else nn.Tanhshrink()
    x = torch.cat([NEAR, torch.tensor([0.0, -0.0, float("nan")])])
    plain, kept = shrink(x), SignKept(shrink, falls=falls)(x)
    wanted = x > 0 if falls else x < 0
    n_turned = int(((plain < 0) != wanted).sum())
    assert n_turned > 100
    assert torch.equal(kept < 0, wanted)
    was_right = ((plain < 0) == wanted) & (plain.abs() > 1e-37)
    assert torch.equal(kept[was_right], plain[was_right])
    assert bool(kept[-1].isnan())


def test_where_it_turned_a_sign_the_gradient_is_still_that_of_the_activation() -> None:
    one, other = NEAR.clone().requires_grad_(), NEAR.clone().requires_grad_()
    SignKept(nn.Tanhshrink())(one).sum().backward()
    nn.functional.tanhshrink(other).sum().backward()
    assert torch.equal(one.grad, other.grad)


def test_one_that_works_in_place_writes_the_kept_sign_there() -> None:
    x = NEAR.clone()
    kept = SignKept(nn.SiLU(inplace=True))(x)
    assert kept is x
    y = NEAR.clone().requires_grad_()
    z = y * 1
    SignKept(nn.SiLU(inplace=True))(z)
    assert torch.equal(z < 0, NEAR < 0)
    z.sum().backward()
    other = NEAR.clone().requires_grad_()
    nn.functional.silu(other).sum().backward()
    assert torch.equal(y.grad, other.grad)


def test_calls_composed_are_calls_one_by_one() -> None:
    steps = (
        Step(0, (Place(0),), {}),
        Step("clamp", (Place(1),), {"max": 0.5}),
        Step(torch.stack, ([Place(0), Place(2)],), {}),
        Step("mean", (Place(3), 0), {}),
    )
    composed = Composed(steps, [nn.Sigmoid()])
    x = image(2, 4)
    assert torch.equal(composed(x), torch.stack([x, x.sigmoid().clamp(max=0.5)]).mean(0))
    assert torch.equal(copy.deepcopy(composed)(x), composed(x))
    assert "clamp" in repr(composed)


def test_a_kept_sign_has_the_gradient_of_its_activation() -> None:
    x = torch.linspace(-8, 8, 101, dtype=torch.float64)
    one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    SignKept(nn.GELU())(one).sin().sum().backward()
    nn.functional.gelu(other).sin().sum().backward()
    torch.testing.assert_close(one.grad, other.grad)
