"""Converted networks: swapped under every name, same keys, trainable, copyable, exportable."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from irbin.binary.activations import RPReLU
from irbin.binary.layers import BinaryConv2d, BinaryLinear, binary_layers, phase_of
from irbin.errors import ConvertError, TraceError
from irbin.planning.plan import make_plan
from irbin.records.options import Preprocessing, SourceRecord
from irbin.records.plan import Plan, PlanOptions
from irbin.rewriting.network import Network
from irbin.rewriting.rewrite import rewrite
from irbin.tracing.trace import trace

SOURCE = SourceRecord("x", "module:x:y", 10, Preprocessing())
SIZE = (3, 32, 32)


def planned(module: nn.Module, size: tuple[int, int, int] = SIZE, **options) -> Plan:
    return make_plan(trace(module, size), PlanOptions(**options))


def converted(module: nn.Module, size: tuple[int, int, int] = SIZE, **options) -> nn.Module:
    return rewrite(Network(module, SOURCE), planned(module, size, **options)).module


def image(n: int = 4, size: tuple[int, int, int] = SIZE) -> Tensor:
    return torch.randn(n, *size, generator=torch.Generator().manual_seed(3))


class Functional(nn.Module):
    """Shared layers, an alias, and ReLUs called as functions."""

    def __init__(self) -> None:
        super().__init__()
        self.pretrained_cfg = {"tag": "kept"}
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv, self.norm2 = nn.Conv2d(8, 8, 3, padding=1, groups=2), nn.BatchNorm2d(8)
        self.alias = nn.ModuleList([self.conv])
        self.spare, self.head = nn.Linear(3, 3), nn.Linear(8, 4)
        self.register_buffer("gain", torch.ones(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        x = F.dropout(x, 0.1, self.training)
        x = F.relu(self.norm2(self.conv(x)), inplace=True)
        x = self.norm2(self.alias[0](x)) * self.gain
        return self.head(x.mean((2, 3)))


def small_torchvision(**options) -> nn.Module:
    """Shared activations that work in place."""
    block = torchvision.models.resnet.BasicBlock
    return torchvision.models.ResNet(block, [1, 1, 1, 1], num_classes=10, **options)


NETWORKS = {
    "functional": Functional,
    "timm test_resnet": lambda: timm.create_model("test_resnet", num_classes=10),
    "torchvision resnet10": small_torchvision,
    "timm test_vit": lambda: timm.create_model("test_vit", num_classes=10, img_size=32),
}


@pytest.mark.slow
@pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS)
def test_a_converted_network_trains_copies_and_exports(build) -> None:
    torch.manual_seed(0)
    source = build()
    keys = set(source.state_dict())
    module = converted(source)
    assert set(module.state_dict()) == keys | {"ede.t", "ede.k"}
    assert not binary_layers(source)

    module.train()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    for _ in range(2):  # at the first step some norms are still zero
        F.cross_entropy(module(image()), torch.arange(4)).backward()
        optimizer.step()
    moved = {k for k, v in module.state_dict().items() if not torch.equal(v, before[k])}
    running = {k for k in keys if k.endswith("running_mean")}
    assert running <= moved
    assert {f"{name}.weight" for name in binary_layers(module)} & moved

    twin = copy.deepcopy(module).eval()
    module.eval()
    assert phase_of(twin) is twin.ede
    assert phase_of(twin) is not phase_of(module)
    expected = module(image())
    torch.testing.assert_close(twin(image()), expected)
    batch = torch.export.Dim.DYNAMIC
    exported = torch.export.export(module, (image(),), dynamic_shapes=({0: batch},))
    torch.testing.assert_close(exported.module()(image()), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("activation", ["hardtanh", "prelu", "rprelu"])
def test_functional_activations_are_replaced_in_the_graph(activation: str) -> None:
    torch.manual_seed(0)
    source = Functional().eval()
    module = converted(source, activation=activation).eval()
    act = nn.Hardtanh() if activation == "hardtanh" else nn.PReLU(8)  # RPReLU begins as one
    x = act(source.norm(source.stem(image())))
    x = act(source.norm2(module.conv(x)))
    expected = source.head(source.norm2(module.conv(x)).mean((2, 3)))
    torch.testing.assert_close(module(image()), expected)


@pytest.mark.slow
def test_modules_that_are_activations_become_rprelus_of_their_channels() -> None:
    source = small_torchvision()
    module = converted(source, (3, 32, 32), activation="rprelu", sign_threshold="learned")
    found = {n: m for n, m in module.named_modules() if isinstance(m, RPReLU)}
    plan = planned(source)
    assert set(found) == set(plan.replaced_activations)
    assert {n: len(m.weight) for n, m in found.items()} == plan.activation_channels
    assert all((m.weight == 0.25).all() and not m.in_offset.any() for m in found.values())
    new = set(module.state_dict()) - set(source.state_dict()) - {"ede.t", "ede.k"}
    names = ("in_offset", "weight", "out_offset")
    assert new == {f"{n}.{name}" for n in found for name in names} | {
        f"{n}.threshold" for n in binary_layers(module)
    }
    n_new = sum(module.state_dict()[name].numel() for name in new)
    wanted = planned(source, activation="rprelu", sign_threshold="learned")
    assert wanted.n_other_floats - plan.n_other_floats == n_new


@pytest.mark.parametrize("sign_threshold", ["zero", "learned"])
@pytest.mark.parametrize("balance", ["mean", "median"])
def test_the_layers_methods_are_the_plans(sign_threshold: str, balance: str) -> None:
    module = converted(Functional(), sign_threshold=sign_threshold, balance=balance)
    suffix = "-median" if balance == "median" else ""
    for layer in binary_layers(module).values():
        assert layer.method.binarizer == f"libra{suffix}"
        assert (layer.threshold is not None) == (sign_threshold == "learned")


@pytest.mark.parametrize("weights", ["same", "ste", "identity"])
@pytest.mark.parametrize("activations", ["ede", "triangle"])
def test_the_layers_estimators_are_the_plans(activations: str, weights: str) -> None:
    module = converted(Functional(), estimator=activations, weight_estimator=weights)
    for layer in binary_layers(module).values():
        assert layer.method.estimator == activations
        wanted = activations if weights == "same" else weights
        assert layer.method.estimator_of_weights == wanted


@pytest.mark.slow
def test_layers_without_a_norm_keep_their_size_by_the_median_too() -> None:
    module = timm.create_model("test_vit", num_classes=10, img_size=32)
    found = converted(module, balance="median", sign_threshold="learned")
    methods = {layer.method for layer in binary_layers(found).values()}
    assert {method.binarizer for method in methods} == {"libra-latent-median"}
    for layer in binary_layers(found).values():
        assert len(layer.threshold) == layer.in_features


def test_what_training_adds_is_trained() -> None:
    torch.manual_seed(0)
    module = converted(
        Functional(), activation="rprelu", sign_threshold="learned", balance="median"
    ).train()
    F.cross_entropy(module(image()), torch.arange(4)).backward()
    added = [n for n, _ in module.named_parameters() if n.endswith(("offset", "threshold"))]
    assert len(added) == 2 * 2 + 1
    for name in added:
        gradient = module.get_parameter(name).grad
        assert gradient is not None
        assert gradient.any()


def test_the_root_keeps_its_class_attributes_and_unused_layers() -> None:
    module = converted(Functional())
    assert isinstance(module, Functional)
    assert module.pretrained_cfg == {"tag": "kept"}
    assert isinstance(module.spare, nn.Linear)
    assert type(module).__name__ == "Functional"


def test_functional_dropout_still_follows_the_mode() -> None:
    module = converted(Functional())
    x = image()
    assert torch.equal(module.eval()(x), module(x))
    module.norm.eval(), module.norm2.eval()
    module.training = True
    assert not torch.equal(module(x), module(x))


def test_every_alias_is_the_same_binary_layer() -> None:
    module = converted(Functional())
    assert isinstance(module.conv, BinaryConv2d)
    assert module.alias[0] is module.conv
    assert module.conv.groups == 2


@pytest.mark.slow
def test_float_layers_and_the_given_network_stay_unless_in_place() -> None:
    source = timm.create_model("test_resnet")
    plan = planned(source)
    module = rewrite(Network(source, SOURCE), plan).module
    assert type(source.layer1[0].conv1) is nn.Conv2d
    for decision in plan.decisions:
        layer = module.get_submodule(decision.layer.name)
        assert isinstance(layer, BinaryConv2d | BinaryLinear) == decision.binary
    result = rewrite(Network(source, SOURCE), plan, in_place=True)
    assert result.module is source
    assert result.plan == plan
    assert isinstance(source.layer1[0].conv1, BinaryConv2d)


@pytest.mark.slow
def test_shared_activations_are_replaced_everywhere_and_the_last_one_stays() -> None:
    module = converted(small_torchvision())
    assert isinstance(module.relu, nn.Hardtanh)
    assert module.relu.inplace
    timms = converted(timm.create_model("test_resnet"))
    relus = [n for n, m in timms.named_modules() if isinstance(m, nn.ReLU)]
    assert relus == ["layer4.0.act2"]  # only the classifier reads it


@pytest.mark.slow
def test_prelu_has_a_slope_per_channel_and_its_keys_are_new() -> None:
    source = timm.create_model("test_resnet")
    plan = planned(source, activation="prelu")
    module = rewrite(Network(source, SOURCE), plan).module
    new = set(module.state_dict()) - set(source.state_dict()) - {"ede.t", "ede.k"}
    assert new == {f"{name}.weight" for name in plan.replaced_activations}
    slopes = {n: m.num_parameters for n, m in module.named_modules() if isinstance(m, nn.PReLU)}
    assert slopes == {n: plan.activation_channels[n] for n in plan.replaced_activations}
    assert torch.equal(module.act1.weight, torch.full((32,), 0.25))


@pytest.mark.slow
def test_weights_only_keeps_the_relus_and_the_chosen_method() -> None:
    module = converted(
        timm.create_model("test_resnet"), bits="1w32a", binarizer="plain", estimator="ste"
    )
    assert not any(isinstance(m, nn.Hardtanh) for m in module.modules())
    for layer in binary_layers(module).values():
        assert layer.method[:3] == ("plain", "ste", False)
        assert layer.phase is module.ede


@pytest.mark.slow
def test_norms_that_carry_their_activation_get_the_new_one_inside() -> None:
    module = converted(timm.create_model("test_byobnet"))
    assert any(
        isinstance(m, timm.layers.BatchNormAct2d) and isinstance(m.act, nn.Hardtanh)
        for m in module.modules()
    )


def test_a_plan_rebuilds_the_same_network() -> None:
    torch.manual_seed(0)
    source = Functional()
    plan = planned(source, activation="prelu", shortcut="bireal")
    first = rewrite(Network(source, SOURCE), plan).module
    again = rewrite(Network(Functional(), SOURCE), plan, in_place=True, check=False).module
    again.load_state_dict(first.state_dict())
    torch.testing.assert_close(again.eval()(image()), first.eval()(image()))


@pytest.mark.slow
def test_a_zero_initialized_norm_does_not_look_like_a_dead_layer() -> None:
    source = small_torchvision(zero_init_residual=True)
    assert not source.layer1[0].bn2.weight.any()
    converted(source)


@pytest.mark.slow
def test_converting_twice_is_an_error() -> None:
    source = timm.create_model("test_resnet")
    network = rewrite(Network(source, SOURCE), planned(source))
    with pytest.raises(ConvertError, match="expected a float network, got one that is converted"):
        rewrite(network, network.plan)


def test_a_plan_of_another_network_is_an_error() -> None:
    plan = planned(timm.create_model("test_resnet"))
    with pytest.raises(ConvertError, match=r"plan binarizes `.*`, which the network does not have"):
        rewrite(Network(Functional(), SOURCE), plan)
    wide = Functional()
    wide.conv = nn.Conv2d(8, 8, 5, padding=2)
    with pytest.raises(ConvertError, match=r"expects a float layer with weights \(8, 4, 3, 3\)"):
        rewrite(Network(wide, SOURCE), planned(Functional()))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_an_error(value: float) -> None:
    source = Functional()
    plan = planned(source)
    source.conv.weight.data[0, 0, 0, 0] = value
    with pytest.raises(ConvertError, match="`conv`: expected finite weights, got NaN or infinity"):
        rewrite(Network(source, SOURCE), plan)


def test_the_name_of_the_phase_must_be_free() -> None:
    class Taken(Functional):
        def __init__(self) -> None:
            super().__init__()
            self.ede = nn.Identity()

    with pytest.raises(ConvertError, match="the network has an attribute `ede`"):
        converted(Taken())


def test_unknown_activations_of_a_plan_are_errors() -> None:
    source = Functional()
    plan = planned(source)
    for name in ("gone", "gone()"):
        decisions = tuple(
            replace(d, layer=replace(d.layer, activations=(name,))) for d in plan.decisions
        )
        wrong = replace(plan, decisions=decisions, activation_channels={name: 1})
        with pytest.raises(ConvertError, match="the plan replaces the activation `gone"):
            rewrite(Network(source, SOURCE), wrong)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: F.relu(x, True),
        lambda x: F.relu(x, inplace=True),
        F.relu_,
        lambda x: F.hardtanh(x, 0.0, 1.0, True),
        lambda x: x.clamp_(min=0),
    ],
    ids=["by place", "by name", "underscore", "hardtanh", "method"],
)
def test_what_stands_in_for_a_function_works_in_place_where_it_did(
    call: Callable[[Tensor], Tensor],
) -> None:
    class Reused(Functional):
        def forward(self, x: Tensor) -> Tensor:
            y = self.stem(x)
            return self.head((self.conv(call(y)) + y).mean((2, 3)))

    module = converted(Reused()).eval()
    assert [m.inplace for m in module.modules() if isinstance(m, nn.Hardtanh)] == [True]
    x = torch.randn(2, 3, 8, 8)
    y = module.stem(x).clamp(-1, 1)
    assert torch.equal(module(x), module.head((module.conv(y) + y).mean((2, 3))))


def test_a_rewritten_forward_answers_otherwise_in_evaluation_as_its_source() -> None:
    class Moody(Functional):
        def forward(self, x: Tensor) -> Tensor:
            y = super().forward(x)
            return y if self.training else y * 2

    module, answers = converted(Moody()).eval(), list[Tensor]()
    module.head.register_forward_hook(lambda _, __, y: answers.append(y))
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(module(x), 2 * answers[-1])
    module.train()
    assert torch.equal(module(x), answers[-1])


def test_a_graph_that_answers_otherwise_in_evaluation_is_refused() -> None:
    class Moody(Functional):
        def forward(self, x: Tensor) -> Tensor:
            y = super().forward(x)
            return y if torch.rand(()) < 0 or self.training else y * 2

    with pytest.raises(TraceError, match=r"evaluation mode \(its forward depends on `self.train"):
        converted(Moody())


def test_a_hook_on_the_network_itself_is_named_as_what_no_graph_has() -> None:
    hooked = Functional()
    hooked.register_forward_hook(lambda _, __, y: 2 * y)
    with pytest.raises(TraceError, match=r"evaluation mode \(hooks on the network itself"):
        converted(hooked)


def test_a_root_that_is_a_container_is_converted() -> None:
    source = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.Hardtanh(),
        nn.Conv2d(8, 8, 3),
        nn.BatchNorm2d(8),
        nn.Flatten(),
        nn.Linear(8 * 16, 3),
    )
    network = rewrite(Network(source, SOURCE), make_plan(trace(source, (3, 8, 8)), PlanOptions()))
    assert isinstance(network.module[3], BinaryConv2d)
    assert network.module(torch.randn(2, 3, 8, 8)).shape == (2, 3)


class Autocast(nn.Module):
    """Its ReLUs are functions, so that converting rewrites the forward."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.n0 = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.body, self.n1 = nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = F.relu(self.n1(self.body(F.relu(self.n0(self.stem(x))))))
        return 100 * self.head(y.float().mean((2, 3)))


def test_an_autocast_that_a_rewritten_forward_leaves_out_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    module = converted(Autocast(), (3, 8, 8))
    told = [r.getMessage() for r in caplog.records if "autocast" in r.getMessage()]
    assert len(told) == 1
    assert re.match(
        r"the forward of `Autocast` is rewritten without its `torch.autocast` "
        r"\(rewriting/test_rewrite.py:\d+\); `amp=` of `irbin.finetune\(\)` trains under one$",
        told[0],
    )
    assert module.eval()(torch.zeros(1, 3, 8, 8)).dtype == torch.float32


def without_gradients(self: Autocast, x: Tensor) -> Tensor:
    with torch.no_grad():
        y = F.relu(self.n1(self.body(F.relu(self.n0(self.stem(x))))))
    return self.head(y.mean((2, 3)))


def as_in_training(self: Autocast, x: Tensor) -> Tensor:
    with torch.set_grad_enabled(self.training):
        y = F.relu(self.n1(self.body(F.relu(self.n0(self.stem(x))))))
    return self.head(y.mean((2, 3)))


@pytest.mark.parametrize(("forward", "n"), [(without_gradients, 1), (as_in_training, 0)])
def test_a_no_grad_that_a_rewritten_forward_leaves_out_is_told(
    forward: Callable[..., Tensor], n: int, caplog: pytest.LogCaptureFixture
) -> None:
    converted(type("Frozen", (Autocast,), {"forward": forward})(), (3, 8, 8))
    told = [r.getMessage() for r in caplog.records if "no_grad" in r.getMessage()]
    assert len(told) == n
    for line in told:
        assert re.match(
            r"the forward of `Frozen` is rewritten without its `torch.no_grad` "
            r"\(rewriting/test_rewrite.py:\d+\): what ran under it gets gradients; ",
            line,
        )


def test_a_layer_without_numbers_is_named() -> None:
    net = Autocast()
    net.body = net.body.to("meta")
    with pytest.raises(ConvertError, match=r"`body.weight` on the device `meta`, where no numbers"):
        converted(net, (3, 8, 8))


class LayerDrop(Autocast):
    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.n0(self.stem(x)))
        if not self.training or torch.rand(()) > 0:
            y = F.relu(self.n1(self.body(y)))
        return self.head(y.mean((2, 3)))


@pytest.mark.parametrize(("kind", "n"), [(LayerDrop, 1), (Autocast, 0)])
def test_random_numbers_that_a_rewritten_forward_draws_no_more_are_told(
    kind: type[nn.Module], n: int, caplog: pytest.LogCaptureFixture
) -> None:
    converted(kind(), (3, 8, 8))
    told = [r.getMessage() for r in caplog.records if "random numbers" in r.getMessage()]
    assert len(told) == n
    assert all(f"the forward of `{kind.__name__}` is rewritten with random" in t for t in told)


class Reads(Autocast):
    def __init__(self) -> None:
        super().__init__()
        self.tau, self.p, self.cut, self.bend = 1.0, 0.0, 0.1, 1.7

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.n0(self.stem(x))) * self.tau
        y = F.dropout2d(F.relu(self.n1(self.body(y))), self.p, self.training)
        return self.head((y * (1 - self.cut)).mean((2, 3)))


class Bends(Reads):
    def forward(self, x: Tensor) -> Tensor:
        y = self.n0(self.stem(x))
        return self.head(F.relu(self.n1(self.body(y * torch.sigmoid(self.bend * y)))).mean((2, 3)))


def test_a_rewritten_forward_reads_numbers_when_it_runs() -> None:
    module = converted(Reads(), (3, 8, 8)).eval()
    assert type(module).forward is not Reads.forward
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    before = module(x)
    module.tau = -1.0
    assert not torch.equal(module(x), before)
    module.tau = 1.0
    assert torch.equal(module(x), before)
    module.train().p = 1.0
    assert torch.equal(module(x), module.head.bias.expand(2, -1) * 1)


@pytest.mark.parametrize(("kind", "names"), [(Reads, ["cut"]), (Bends, ["bend"]), (Autocast, [])])
def test_numbers_that_it_cannot_read_are_told_with_their_line(
    kind: type[nn.Module], names: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    converted(kind(), (3, 8, 8))
    told = [r.getMessage() for r in caplog.records if "as it is now" in r.getMessage()]
    assert [re.sub(r":\d+", "", line) for line in told] == [
        f"the forward of `{kind.__name__}` is rewritten with what it computes from `{name}` "
        "(rewriting/test_rewrite.py) as it is now: setting it later changes nothing"
        for name in names
    ]


def test_an_autocast_around_the_conversion_is_nobodys(caplog: pytest.LogCaptureFixture) -> None:
    class Plain(Autocast):
        def forward(self, x: Tensor) -> Tensor:
            y = F.relu(self.n1(self.body(F.relu(self.n0(self.stem(x))))))
            return self.head(y.float().mean((2, 3)))

    with torch.autocast("cpu", dtype=torch.bfloat16):
        converted(Plain(), (3, 8, 8))
    assert not [r for r in caplog.records if "autocast" in r.getMessage()]
