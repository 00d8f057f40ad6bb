"""Activations whose sign is that of their input keep it, trained and packed alike."""

from __future__ import annotations

import json
import pickle
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from timm.layers import BatchNormAct2d, LayerNormAct2d
from timm.models.nfnet import GammaAct
from torch import Tensor, nn

import irbin
from irbin import SourceOptions
from irbin.binary.activations import SignKept
from irbin.binary.layers import binary_layers
from irbin.planning.plan import make_plan
from irbin.records.plan import PlanOptions
from irbin.rewriting.edits import graph_to_edit
from irbin.sources.folder import load_folder
from irbin.tracing.trace import trace

from .conftest import LOSING


class Net(nn.Module):
    """stem → act → more → body → head."""

    def __init__(self, act: nn.Module, more: nn.Module | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.norm, self.act = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), act
        self.more, self.body = more or nn.Dropout(0.1), nn.Conv2d(8, 8, 3, padding=1)
        self.norm2, self.head = nn.BatchNorm2d(8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(self.more(self.act(self.norm(self.stem(x)))))
        return self.head(self.norm2(y).mean((2, 3)))


def converted(net: nn.Module, **options: object) -> irbin.rewriting.network.Network:
    torch.manual_seed(0)
    return irbin.convert(net, source_options=SourceOptions(input_size=(3, 8, 8)), **options)


def check_sees_the_input(
    net: Net, folder: Path, *, bypassed: bool = True
) -> irbin.rewriting.network.Network:
    """Trained and packed alike, `body` sees the sign of what `norm` gives."""
    torch.manual_seed(0)
    network = converted(net)
    module, seen = network.module.eval(), {}
    hooks = [
        module.norm.register_forward_hook(lambda _, args, out: seen.update(before=out.clone())),
        module.body.register_forward_pre_hook(lambda _, args: seen.update(behind=args[0])),
    ]
    x = 60 * torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = module(x)
    assert float(seen["before"].min()) < -100
    assert torch.equal(seen["behind"] < 0, seen["before"] < 0)
    for hook in hooks:
        hook.remove()
    irbin.export(network, folder / "packed")
    packed = irbin.load(folder / "packed")
    torch.testing.assert_close(packed(x), wanted, rtol=1e-4, atol=1e-5)
    names = [node.op for node in packed.program.nodes]
    if bypassed:
        assert names[:4] == ["aten.conv2d.default", "aten.mul.Tensor", "aten.add.Tensor", "bitpack"]
    return network


@pytest.mark.slow
@pytest.mark.parametrize("act", LOSING.values(), ids=LOSING)
def test_a_binary_layer_sees_the_sign_in_front_of_the_activation(
    act: nn.Module, tmp_path: Path
) -> None:
    check_sees_the_input(Net(act), tmp_path)


@pytest.mark.slow
def test_what_also_others_read_is_computed_and_pooled_signs_agree(tmp_path: Path) -> None:
    network = converted(Net(nn.GELU(), nn.AvgPool2d(2)))
    assert isinstance(network.module.act, SignKept)
    irbin.export(network, tmp_path / "packed")
    x = 60 * torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    packed = irbin.load(tmp_path / "packed")
    assert "aten.gelu.default" in [node.op for node in packed.program.nodes]
    with torch.no_grad():
        torch.testing.assert_close(packed(x), network.module.eval()(x), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_weights_alone_need_no_sign_and_norms_make_their_own() -> None:
    assert not isinstance(converted(Net(nn.GELU()), bits="1w32a").module.act, SignKept)
    assert not isinstance(converted(Net(nn.GELU(), nn.BatchNorm2d(8))).module.act, SignKept)


class Carried(Net):
    """The norm in front of `body` carries its activation, as timm's do."""

    def __init__(self, norm: type[nn.Module], act: type[nn.Module]) -> None:
        super().__init__(nn.Identity())
        self.norm = norm(8, act_layer=act)
        with torch.no_grad():
            self.norm.weight.mul_(10)


@pytest.mark.parametrize("act", [nn.GELU, nn.SiLU, nn.Hardswish])
def test_what_a_norm_carries_is_in_front(act: type[nn.Module]) -> None:
    layers = {layer.name: layer for layer in trace(Carried(BatchNormAct2d, act), (3, 8, 8)).layers}
    assert layers["body"].signs_of_inputs == ("norm.act",)


@pytest.mark.parametrize("norm", [BatchNormAct2d, LayerNormAct2d])
def test_a_sign_behind_what_a_norm_carries_is_that_of_the_norms_result(
    norm: type[nn.Module], tmp_path: Path
) -> None:
    network = converted(Carried(norm, nn.GELU))
    module = network.module.eval()
    assert isinstance(module.norm.act, SignKept)
    irbin.export(network, tmp_path / "packed")
    x = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = module(x)
    packed = irbin.load(tmp_path / "packed")
    torch.testing.assert_close(packed(x), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_state_keeps_its_names() -> None:
    net = Net(nn.SiLU())
    names = set(net.state_dict())
    assert set(converted(net).module.state_dict()) == names | {"ede.t", "ede.k"}


@pytest.mark.slow
def test_functions_are_named_and_kept_where_the_forward_is_rewritten() -> None:
    class Two(Net):
        def __init__(self) -> None:
            super().__init__(nn.Identity())
            self.last = nn.Conv2d(8, 8, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = F.relu(self.norm(self.stem(x)))
            y = F.gelu(self.norm2(self.body(y)), approximate="tanh")
            return self.head(self.norm(self.last(y)).mean((2, 3)))

    layers = {layer.name: layer for layer in trace(Two(), (3, 8, 8)).layers}
    assert layers["last"].signs_of_inputs == ("gelu()",)
    module = converted(Two()).module
    kept = [m for m in module.modules() if isinstance(m, SignKept)]
    assert [(type(m.activation), m.activation.approximate) for m in kept] == [(nn.GELU, "tanh")]
    assert set(binary_layers(module)) == {"body", "last"}


CALLED: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "silu in place": lambda x: F.silu(x, True),
    "mish": F.mish,
    "hardswish": F.hardswish,
    "hardswish in place": lambda x: F.hardswish(x, inplace=True),
    "softshrink": lambda x: F.softshrink(x, 0.7),
    "threshold": lambda x: F.threshold(x, -20.0, 0.0),
    "leaky relu that hardly leaks": lambda x: F.leaky_relu(x, 1e-45),
    "a method": lambda x: x.hardshrink(2.0),
    "by name": lambda x: F.gelu(input=x),
    "tanhshrink": F.tanhshrink,
    "a difference": lambda x: x - torch.tanh(x),
    "a hard-swish": lambda x: x * F.relu6(x + 3) / 6,
    "a swish": lambda x: torch.sigmoid(x) * x,
    "a mish": lambda x: x * torch.tanh(F.softplus(x)),
    "a gelu": lambda x: 0.5 * x * (1 + torch.erf(x / 2**0.5)),
    "a tanh behind it": lambda x: torch.tanh(F.gelu(x)),
}


class Calls(Net):
    """stem → what is called → body → head."""

    def __init__(self, call: Callable[[Tensor], Tensor]) -> None:
        super().__init__(nn.Identity())
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(self.call(self.norm(self.stem(x))))
        return self.head(self.norm2(y).mean((2, 3)))


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLED.values(), ids=CALLED)
def test_so_does_one_behind_a_function(
    call: Callable[[Tensor], Tensor], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    check_sees_the_input(Calls(call), tmp_path, bypassed=call is not CALLED["a hard-swish"])
    assert "stay as they are called" not in caplog.text


@pytest.mark.slow
def test_and_one_behind_a_function_and_a_product(tmp_path: Path) -> None:
    check_sees_the_input(Calls(lambda x: F.gelu(x).mul_(1.7) * 0.5), tmp_path, bypassed=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [nn.GELU(), nn.Hardswish(), nn.Tanh(), nn.LeakyReLU(), nn.PReLU(8), nn.Softsign()],
    ids=lambda m: type(m).__name__,
)
def test_and_one_behind_two_activations(more: nn.Module, tmp_path: Path) -> None:
    network = check_sees_the_input(Net(nn.GELU(), more), tmp_path, bypassed=False)
    assert "act" in network.plan.sign_keeping


def in_place(call: Callable[[Tensor], object]) -> Callable[[Tensor], Tensor]:
    """What `call` writes into its input; its result is left unread."""

    def changed(x: Tensor) -> Tensor:
        call(x)
        return x

    return changed


UNREAD: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": in_place(lambda x: F.silu(x, inplace=True)),
    "a difference": in_place(lambda x: x.add_(torch.tanh(x), alpha=-1)),
    "copied": in_place(lambda x: x.copy_(x - torch.tanh(x))),
    "and once more": in_place(lambda x: (F.silu(x, inplace=True), F.silu(x, inplace=True))),
    "of a clone": lambda x: x.clone().sub_(torch.tanh(x)),
    "of a cast": lambda x: x.float() - torch.tanh(x.float()),
}


@pytest.mark.slow
@pytest.mark.parametrize("call", UNREAD.values(), ids=UNREAD)
def test_what_is_written_in_place_is_read_later(
    call: Callable[[Tensor], Tensor], tmp_path: Path
) -> None:
    check_sees_the_input(Calls(call), tmp_path, bypassed=False)


def overwritten(x: Tensor) -> Tensor:
    bent = torch.tanh(x)
    x.mul_(1.0)
    return x - bent


def overwritten_in_part(x: Tensor) -> Tensor:
    bent = torch.tanh(x)
    x[:, :4].mul_(2)
    return x - bent


def overwritten_through_a_view(x: Tensor) -> Tensor:
    bent = torch.tanh(x)
    x.view(-1).mul_(2)
    return x / 2 - bent


def summed_through_a_view(x: Tensor) -> Tensor:
    kept = x.clone()
    kept.view(-1).sub_(torch.tanh(x).view(-1))
    return kept


def read_by_its_other_name(x: Tensor) -> Tensor:
    kept = x.clone()
    result = kept.sub_(torch.tanh(x))
    return result + 0 * kept


def summed_in_part(x: Tensor) -> Tensor:
    kept = x.clone()
    kept[:, :4].sub_(torch.tanh(x[:, :4]))
    return kept


_OVERWRITTEN = [
    overwritten,
    overwritten_in_part,
    overwritten_through_a_view,
    summed_through_a_view,
    read_by_its_other_name,
    summed_in_part,
]


@pytest.mark.parametrize("call", _OVERWRITTEN)
def test_a_layer_behind_what_reads_an_overwritten_tensor_stays_float(
    call: Callable[[Tensor], Tensor],
) -> None:
    (body,) = (r for r in trace(Calls(call), (3, 8, 8)).layers if r.name == "body")
    assert body.signs_of_inputs == ()
    assert re.fullmatch(
        r"`(sub|add)` \(tracing/test_keeping_sign\.py:\d+\), which reads what is overwritten",
        body.rounded_sign,
    )


def moved(x: Tensor) -> Tensor:
    kept = torch.zeros_like(x)
    kept[:, 1:] = x[:, :-1]
    return kept


def shifted(x: Tensor) -> Tensor:
    x = x.clone()
    x[:, :4].add_(1)
    return x


def scaled_behind(x: Tensor) -> Tensor:
    return F.silu(x, inplace=True) * 2


@pytest.mark.parametrize("call", [moved, shifted, scaled_behind])
def test_what_is_written_without_a_difference_leaves_a_layer_binary(
    call: Callable[[Tensor], Tensor],
) -> None:
    (body,) = (r for r in trace(Calls(call), (3, 8, 8)).layers if r.name == "body")
    assert body.rounded_sign == ""


def test_a_gate_of_what_was_has_nothing_to_say() -> None:
    (body,) = (r for r in trace(Overwritten(F.gelu), (3, 8, 8)).layers if r.name == "body")
    assert body.rounded_sign == ""


class Overwritten(Calls):
    """The gate is that of the tensor before one was added to it."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.stem(x))
        gate = torch.sigmoid(y)
        y.add_(1)
        z = y * gate
        return self.head((self.norm2(self.body(z)) + z).mean((2, 3)))


@pytest.mark.slow
def test_what_is_overwritten_in_between_is_read_as_it_was() -> None:
    net = Overwritten(F.gelu)
    network = converted(net)
    seen: list[Tensor] = []
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for module in (net.eval(), network.module.eval()):
        module.body.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        with torch.no_grad():
            module(x)
    torch.testing.assert_close(*seen)


NEAR_ZERO: dict[str, tuple[Callable[[Tensor], Tensor], list[str]]] = {
    "tanhshrink": (F.tanhshrink, []),
    "a difference": (lambda x: x - torch.tanh(x), []),
    "its negative": (lambda x: torch.tanh(x) - x, ["aten.neg.default"]),
    "in place": (lambda x: x.sub_(torch.tanh(x)), []),
    "sine": (lambda x: x - torch.sin(x), []),
    "scaled": (lambda x: 3 * (x - torch.tanh(x)), ["aten.where.self"]),
    "pooled": (lambda x: F.max_pool2d(x - torch.tanh(x), 2), ["aten.where.self"]),
}


@pytest.mark.slow
@pytest.mark.parametrize(("call", "more"), NEAR_ZERO.values(), ids=NEAR_ZERO)
def test_a_difference_that_is_rounding_near_zero_has_the_sign_of_its_input(
    call: Callable[[Tensor], Tensor], more: list[str], tmp_path: Path
) -> None:
    network = converted(Calls(call))
    module, seen = network.module.eval(), {}
    assert network.plan.binary_names == ("body",)
    module.norm.register_forward_hook(lambda _, args, out: seen.update(before=out.clone()))
    module.body.register_forward_pre_hook(lambda _, args: seen.update(behind=args[0]))
    x = 1e-3 * torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        module.stem.bias.zero_()
        wanted = module(x)
    assert float(seen["before"].abs().max()) < 1e-2
    before = call(seen["before"].double())
    assert torch.equal(seen["behind"] < 0, before < 0)
    irbin.export(network, tmp_path / "packed")
    packed = irbin.load(tmp_path / "packed")
    torch.testing.assert_close(packed(x), wanted, rtol=1e-4, atol=1e-5)
    names = {node.op for node in packed.program.nodes}
    assert set(more) <= names
    assert ("aten.where.self" in names) == ("aten.where.self" in more)


def _shrink(x: Tensor) -> Tensor:
    return x - torch.tanh(x)


class Shared(Calls):
    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.stem(x))
        t = torch.tanh(y)
        return self.head(self.norm2(self.body(y - t) + t).mean((2, 3)))


@pytest.mark.slow
def test_what_a_composed_one_is_made_of_is_computed_once_and_where_others_read_it() -> None:
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for net, n_left in ((Calls(_shrink), 0), (Shared(F.gelu), 1)):
        network = converted(net)
        assert network.plan.sign_keeping == ("sub()",)
        assert network.module.forward.__code__.co_names.count("tanh") == n_left
        again = pickle.loads(pickle.dumps(network.module))
        assert torch.equal(again.eval()(x), network.module.eval()(x))
        network.module.train()(x).sum().backward()
        assert network.module.stem.weight.grad is not None


class HardSwish(nn.Module):
    """As people write it."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU6(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return x * (self.relu(x + 3) / 6)


@pytest.mark.slow
@pytest.mark.parametrize("act", [HardSwish(), GammaAct("gelu"), GammaAct("silu", inplace=True)])
def test_and_one_behind_an_activation_made_of_several(act: nn.Module, tmp_path: Path) -> None:
    network = check_sees_the_input(Net(act), tmp_path)
    assert isinstance(network.module.act, SignKept)
    assert type(network.module).forward is Net.forward


class Moody(Calls):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y if random.random() < 0 or self.training else y * 2


class More(Calls):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return (y, y) if self.training else y


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (Moody, "gives other answers than the network in evaluation mode"),
        (More, "the forward of `More` returns more in training"),
    ],
)
def test_where_the_forward_cannot_be_rewritten_it_stays_and_that_is_said(
    kind: type[Calls], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    network = converted(kind(F.gelu))
    assert type(network.module).forward is kind.forward
    assert network.plan.binary_names == ("body",)
    assert network.plan.sign_keeping == ()
    assert "`gelu()` stay as they are called, so a sign behind them is +1" in caplog.text
    assert why in caplog.text


def test_a_forward_with_an_autocast_of_its_own_is_not_rewritten_for_signs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Autocast(Calls):
        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return super().forward(x)

    net = Autocast(F.gelu)
    plan = make_plan(trace(net, (3, 8, 8)), PlanOptions())
    assert plan.sign_keeping == ("gelu()",)
    traced, settled = graph_to_edit(net, plan, check=True)
    assert traced is None
    assert settled.sign_keeping == ()
    assert "has a `torch.autocast` of its own" in caplog.text


def made() -> nn.Module:
    """Named by a folder of an earlier version, with an activation of each sort."""
    return Both()


class Both(Net):
    def __init__(self) -> None:
        super().__init__(HardSwish())
        self.last = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.gelu(self.norm2(self.body(self.act(self.norm(self.stem(x))))))
        return self.head(self.norm(self.last(y)).mean((2, 3)))


@pytest.mark.slow
def test_what_earlier_versions_converted_answers_as_it_did(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = f"module:{__name__}:made"
    options = SourceOptions(input_size=(3, 8, 8))
    network = irbin.convert(source, tmp_path / "new", source_options=options)
    assert network.plan.sign_keeping == ("act", "gelu()")
    config = json.loads((tmp_path / "new/config.json").read_text())
    shutil.copytree(tmp_path / "new", tmp_path / "old")
    plan = config["irbin"]["plan"]
    del plan["keeps_called_signs"]
    for decision in plan["decisions"]:
        names = decision["layer"]["signs_of_inputs"]
        decision["layer"]["signs_of_inputs"] = [n for n in names if n == "gelu()"]
    (tmp_path / "old/config.json").write_text(json.dumps(config))
    old, new = (load_folder(tmp_path / name).module for name in ("old", "new"))
    assert type(old).forward is Both.forward
    assert not any(isinstance(m, SignKept) for m in old.modules())
    kept = {n for n, m in new.named_modules() if isinstance(m, SignKept)}
    assert kept == {"activation_gelu", "act"}
    assert old.state_dict().keys() == new.state_dict().keys()
