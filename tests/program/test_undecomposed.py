"""What needs no decomposition is the program that torch's decomposition gives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irbin.binary.activations import SignKept
from irbin.binary.anneal import EdePhase
from irbin.binary.layers import BinaryConv2d, Method
from irbin.errors import LowerError
from irbin.program import lower as lowering
from irbin.program.lower import check_lowers, lower
from irbin.program.lowered import Lowered
from irbin.program.undecomposed import in_program_operators

SIZE = (3, 8, 8)


class Net(nn.Module):
    """convolution → norm → what is tried → a binary convolution → linear layer."""

    def __init__(self, tried: Callable[[Tensor], Tensor], *, binary: bool = True) -> None:
        super().__init__()
        self.stem, self.norm, self.tried = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), tried
        self.body = nn.Conv2d(4, 4, 1)
        if binary:
            self.body = BinaryConv2d.from_float(self.body, Method(), EdePhase())
        self.act, self.head = SignKept(nn.GELU()), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.body(self.tried(self.norm(self.stem(x)))))
        return self.head(F.dropout(x.mean((2, 3), keepdim=True).flatten(1), 0.1, self.training))


def add_in_place(x: Tensor) -> Tensor:
    y = x.tanh()
    y += x
    y += 1
    return y * y


def read_after(x: Tensor) -> Tensor:
    y = x.exp()
    z = y.mul_(2)
    return y + z.add_(x) + y


def view_before(x: Tensor) -> Tensor:
    y = x.exp()
    z = y.transpose(2, 3)
    y.mul_(2)
    return y + z


def view_between(x: Tensor) -> Tensor:
    y = x.exp()
    z = y.mul_(2)
    seen = y.transpose(2, 3)
    z.add_(1)
    return z + seen


def of_a_view(x: Tensor) -> Tensor:
    y = x.exp()
    y[:, 0] += 1
    return y


def of_a_view_of_two(x: Tensor) -> Tensor:
    y = x.exp()
    y.reshape(y.shape).mul_(2)
    return y


REWRITTEN = {
    "nothing": lambda x: x,
    "add in place": add_in_place,
    "read after": read_after,
    "relu in place": lambda x: F.relu(x, inplace=True),
    "type": lambda x: x.to(torch.float32) + (x > 0).to(torch.float32),
    "pooling": lambda x: F.max_pool2d(x, 2),
}


def of_another_type(x: Tensor) -> Tensor:
    """In place, what float32 is multiplied by float64 gives stays float32."""
    return x.exp().mul_(torch.ones(4, 1, 1, dtype=torch.float64))


LEFT = {
    "view before": view_before,
    "view between": view_between,
    "of a view": of_a_view,
    "of what may be a view": of_a_view_of_two,
    "of another type": of_another_type,
    "unknown": lambda x: x.reshape_as(x),
    "statistics of the batch": lambda x: F.instance_norm(x),
    "no batch axis in front": lambda x: x.flatten(0, 1).unflatten(0, (-1, 4)),
}


def exported(net: nn.Module, size: tuple[int, int, int] = SIZE) -> torch.export.ExportedProgram:
    return lowering._export(lowering._frozen_copy(net), size)


def decomposed(net: nn.Module, size: tuple[int, int, int] = SIZE) -> Lowered:
    """What torch's decomposition gives, the definition."""
    frozen = lowering._frozen_copy(net)
    return lowering._translate(frozen, lowering._decomposed(lowering._export(frozen, size)))


def same(one: Lowered, other: Lowered) -> bool:
    """Node by node, and bit by bit of what they hold."""
    pairs = [(tensor, other.tensors.get(name)) for name, tensor in one.tensors.items()]
    return (
        one.program == other.program
        and one.tensors.keys() == other.tensors.keys()
        and all(np.array_equal(left, right) for left, right in pairs)
    )


@pytest.mark.slow
@pytest.mark.parametrize("tried", REWRITTEN.values(), ids=REWRITTEN)
def test_the_program_is_the_same(tried: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    net = Net(tried).eval()
    program = exported(net)
    assert in_program_operators(program.graph)
    assert not any(n.op == "call_function" and lowering_is_mutable(n) for n in program.graph.nodes)
    assert same(lower(net, SIZE), decomposed(net))


@pytest.mark.slow
@pytest.mark.parametrize("tried", REWRITTEN.values(), ids=REWRITTEN)
def test_what_is_computed_is_the_same(tried: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    net = Net(tried, binary=False).eval()
    program = exported(net)
    assert in_program_operators(program.graph)
    program.graph_module.recompile()
    x = torch.randn(2, *SIZE)
    with torch.no_grad():
        torch.testing.assert_close(program.module(check_guards=False)(x), net(x))


def lowering_is_mutable(node: torch.fx.Node) -> bool:
    return getattr(node.target, "_schema", None) is not None and node.target._schema.is_mutable


@pytest.mark.slow
@pytest.mark.parametrize("tried", LEFT.values(), ids=LEFT)
def test_what_is_not_plain_is_left_to_torch(tried: Callable[[Tensor], Tensor]) -> None:
    program = exported(Net(tried).eval())
    before = str(program.graph)
    assert not in_program_operators(program.graph)
    assert str(program.graph) == before


@pytest.mark.slow
@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext"])
def test_networks_are_proven_and_lowered_without_decomposing(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = timm.create_model(name).eval()
    wanted = decomposed(net, (3, 64, 64))
    monkeypatch.setattr(lowering, "_decomposed", lambda _: pytest.fail("decomposed"))
    check_lowers(net, (3, 64, 64))
    assert same(lower(net, (3, 64, 64)), wanted)


@pytest.mark.slow
def test_a_network_that_writes_to_a_buffer_is_refused_as_before() -> None:
    class Counts(Net):
        def __init__(self) -> None:
            super().__init__(lambda x: x)
            self.register_buffer("count", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.count += 1
            return super().forward(x) * self.count

    with pytest.raises(LowerError, match="writes to `count`"):
        check_lowers(Counts().eval(), SIZE)
