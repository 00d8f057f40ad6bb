"""What activations give while `KeepingSigns` is active, against torch's own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from irbin.binary.activations import LEAST
from irbin.binary.kept_calls import FUNCTIONS, KeepingSigns

CALLS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "silu": F.silu,
    "mish": F.mish,
    "hardswish": F.hardswish,
    "tanhshrink": F.tanhshrink,
    "softshrink": F.softshrink,
    "hardshrink": Tensor.hardshrink,
}


def test_every_function_has_a_call() -> None:
    assert set(CALLS) == FUNCTIONS


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_the_sign_is_that_of_the_input_and_nothing_else_changes(
    call: Callable[[Tensor], Tensor],
) -> None:
    x = torch.cat(
        [torch.linspace(-200, 200, 4001), torch.logspace(-8, 0, 99), torch.tensor(-0.0)[None]]
    )
    plain = call(x)
    assert ((plain < 0) != (x < 0)).any()
    with KeepingSigns():
        kept = call(x)
    assert torch.equal(kept < 0, x < 0)
    same = ((plain < 0) == (x < 0)) & ((plain == 0) | (plain.abs() >= LEAST))
    assert torch.equal(kept[same], plain[same])
    torch.testing.assert_close(kept, plain, rtol=0, atol=1e-7)


def test_in_place_keyword_and_gradient_are_those_of_the_function() -> None:
    x = torch.tensor([-200.0, -1, 2], requires_grad=True)
    F.silu(x).sum().backward()
    expected = x.grad
    y = x.detach().clone().requires_grad_()
    z = y * 1
    with KeepingSigns():
        made = F.silu(input=z, inplace=True)
    assert made is z
    assert torch.equal(made < 0, x < 0)
    made.sum().backward()
    assert torch.equal(y.grad, expected)
