"""Signs behind activations in forwards that cannot be traced: kept, or the layer stays float."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import irbin
from irbin import SourceOptions
from irbin.tracing.tape import unkept_signs
from irbin.tracing.trace import trace


class Gate(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(8 * x)


class Split(nn.Module):
    """Far from zero, an activation of each part of a split, which no tracing sees through."""

    def __init__(self, call: Callable[[Tensor], Tensor] | nn.Module) -> None:
        super().__init__()
        self.norm, self.conv, self.call = nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, padding=1), call
        nn.init.constant_(self.norm.weight, 30.0)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.call(part) for part in self.norm(x).split(4, 1)]
        return self.conv(torch.cat(parts, 1))


class Net(nn.Module):
    def __init__(self, call: Callable[[Tensor], Tensor] | nn.Module) -> None:
        torch.manual_seed(0)
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, 8, 3), nn.ModuleList([Split(call)])
        self.more, self.head = nn.Conv2d(8, 8, 1), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body[0](self.stem(x))
        return self.head((y + self.more(y)).mean((2, 3)))


class Whole(Split):
    """The network's own forward cannot be traced."""

    def __init__(self, call: Callable[[Tensor], Tensor] | nn.Module) -> None:
        torch.manual_seed(0)
        super().__init__(call)
        self.stem, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(super().forward(self.stem(x)).mean((2, 3)))


CALLS: dict[str, Callable[[], Callable[[Tensor], Tensor] | nn.Module]] = {
    "gelu": lambda: F.gelu,
    "silu, a module": lambda: nn.SiLU(),
    "a module of one's own": Gate,
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Net, Whole])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_packed_sees_the_signs_that_trained_sees(
    kind: type[Net | Whole], call: Callable[[], nn.Module], tmp_path: Path
) -> None:
    network = irbin.convert(kind(call()), source_options=SourceOptions(input_size=(3, 9, 9)))
    module = network.module.eval()
    layer, seen = ("body.0" if kind is Net else ""), {}
    assert f"{layer}(*)" in network.plan.sign_keeping
    part = module.get_submodule(layer)
    part.norm.register_forward_hook(lambda _, args, out: seen.update(before=out.clone()))
    part.conv.register_forward_pre_hook(lambda _, args: seen.update(behind=args[0]))
    x = torch.randn(3, 3, 9, 9)
    with torch.no_grad():
        trained = module(x)
    assert (F.gelu(seen["before"]) == 0).any()
    assert torch.equal(seen["behind"] < 0, seen["before"] < 0)
    for part_hooks in (part.norm._forward_hooks, part.conv._forward_pre_hooks):
        part_hooks.clear()
    irbin.export(network, tmp_path / "packed")
    torch.testing.assert_close(irbin.load(tmp_path / "packed")(x), trained, rtol=1e-4, atol=1e-4)
    if not isinstance(call(), nn.Module):
        for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
            with torch.no_grad():
                assert torch.equal(other(x), trained)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda x: x - torch.tanh(x), "sub"),
        (lambda x: x * torch.sigmoid(x), "mul"),
        (lambda x: x.clone().sub_(torch.tanh(x)), "sub"),
    ],
)
def test_a_layer_behind_several_calls_stays_float_and_says_why(
    call: Callable[[Tensor], Tensor], name: str
) -> None:
    record = next(r for r in trace(Net(call), (3, 9, 9)).layers if r.name == "body.0.conv")
    assert record.rounded_sign.startswith(f"`{name}` (tracing/test_tape.py:")
    assert record.rounded_sign.endswith(", in a forward that cannot be traced")
    plan = irbin.plan(Net(call), source_options=SourceOptions(input_size=(3, 9, 9)))
    decisions = {d.layer.name: d for d in plan.decisions}
    assert not decisions["body.0.conv"].binary
    assert decisions["body.0.conv"].reason.startswith("its input's sign is rounding behind `")
    assert decisions["more"].binary


@pytest.mark.parametrize("call", [F.gelu, torch.tanh, lambda x: F.gelu(F.gelu(x)), nn.Identity()])
def test_others_have_nothing_to_say(call: Callable[[Tensor], Tensor]) -> None:
    assert unkept_signs(Net(call), ["body.0.conv"], (3, 9, 9)) == {}
