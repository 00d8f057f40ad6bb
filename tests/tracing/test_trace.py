"""Layer facts of real and hand-written networks; the counts of the two witnesses agree."""

from __future__ import annotations

import math

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from timm.layers import Conv2dSame, StdConv2d
from timm.layers import Linear as TimmLinear
from torch import Tensor, nn

from irbin.errors import TraceError
from irbin.planning.plan import NEVER_RUNS
from irbin.records.plan import LayerGraph, LayerRecord
from irbin.tracing.trace import trace, trace_graph

SIZE = (3, 64, 64)


def by_name(graph: LayerGraph) -> dict[str, LayerRecord]:
    return {layer.name: layer for layer in graph.layers}


def facts(network: nn.Module, size: tuple[int, int, int] = (3, 8, 8)) -> dict[str, LayerRecord]:
    return by_name(trace(network, size))


def n_params(graph: LayerGraph) -> int:
    own = sum(math.prod(r.weight_shape) + r.has_bias * r.weight_shape[0] for r in graph.layers)
    return own + graph.n_other_params


REAL = {
    "timm resnet18": lambda: timm.create_model("resnet18"),
    "torchvision vgg11": lambda: torchvision.models.vgg11(num_classes=10),
    "torchvision mobilenet_v2": lambda: torchvision.models.mobilenet_v2(),
    "torchvision densenet121": lambda: torchvision.models.densenet121(),
    "timm test_vit": lambda: timm.create_model("test_vit", img_size=64),
    "timm test_byobnet": lambda: timm.create_model("test_byobnet"),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.parametrize("how", ["script", "trace"])
def test_what_torchscript_compiled_is_named(how: str) -> None:
    def compiled(module: nn.Module) -> nn.Module:
        if how == "script":
            return torch.jit.script(module)
        return torch.jit.trace(module.eval(), torch.zeros(1, 3, 8, 8))

    inner = compiled(nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()))
    network = nn.Sequential(nn.Conv2d(3, 3, 1), inner, nn.Sequential(compiled(nn.ReLU())))
    with pytest.raises(TraceError, match=r"but `1`, `2.0` in `Sequential` are ScriptModules"):
        trace(network, (3, 8, 8))
    with pytest.raises(
        TraceError, match=r"but `1` in `Sequential` is a ScriptModule .* it was made"
    ):
        trace(network[:2], (3, 8, 8))
    with pytest.raises(
        TraceError, match=r"`, which `torch.jit.script` or `trace` made; give the ne"
    ):
        trace(inner, (3, 8, 8))


@pytest.mark.slow
@pytest.mark.parametrize("build", REAL.values(), ids=REAL)
def test_every_parameter_is_counted_once_and_first_and_last_are_single(build) -> None:
    with torch.device("meta"):
        network = build()
    graph = trace(network, SIZE)
    assert n_params(graph) == sum(p.numel() for p in network.parameters())
    assert [r.name for r in graph.layers if r.is_first] == [graph.layers[0].name]
    assert [r.name for r in graph.layers if r.is_last] == [graph.layers[-1].name]
    assert not any(r.obstacle for r in graph.layers)
    assert all(r.n_macs > 0 for r in graph.layers)


def test_resnet18_has_the_published_work_and_structure() -> None:
    with torch.device("meta"):
        network = timm.create_model("resnet18")
    graph = trace(network, (3, 224, 224))
    assert sum(r.n_macs for r in graph.layers) == 1_814_073_344
    shortcuts = [r.name for r in graph.layers if r.is_shortcut]
    assert shortcuts == [f"layer{i}.0.downsample.0" for i in (2, 3, 4)]
    fed = by_name(graph)
    assert fed["layer1.0.conv1"].activations == ("act1",)  # through the max-pool
    assert fed["layer1.0.conv2"].activations == ("layer1.0.act1",)
    assert fed["fc"].activations == ("layer4.1.act2",)  # through the pooling
    assert graph.other_bytes == 4 * 2 * 4800  # twenty batch norms
    assert graph.activation_channels["layer2.0.act1"] == 128


@pytest.mark.slow
def test_shared_activations_are_named_once_per_module() -> None:
    graph = trace(torchvision.models.resnet18(num_classes=10), SIZE)
    assert by_name(graph)["layer1.0.conv2"].activations == ("layer1.0.relu",)
    assert by_name(graph)["layer1.1.conv1"].activations == ("layer1.0.relu",)


@pytest.mark.slow
def test_depthwise_and_gates_of_a_mobile_network() -> None:
    graph = trace(timm.create_model("test_efficientnet"), SIZE)
    assert all(r.is_depthwise == (r.groups > 1) for r in graph.layers)
    assert {r.name for r in graph.layers if r.is_gate} == {
        r.name for r in graph.layers if ".se." in r.name
    }


@pytest.mark.slow
def test_a_densely_connected_layer_is_fed_by_its_own_relu() -> None:
    with torch.device("meta"):
        network = torchvision.models.densenet121()
    found = facts(network, SIZE)
    layer = "features.denseblock1.denselayer2"
    assert found[f"{layer}.conv1"].activations == (f"{layer}.relu1",)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, stride=4)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.mlp, self.head = nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)  # (batch, tokens, channels)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.head(self.mlp(x).mean(1))


def test_attention_weights_are_layers_with_obstacles_and_work() -> None:
    graph = trace(Attention(), (3, 8, 8))
    found = by_name(graph)
    assert found["attention"].obstacle == "`MultiheadAttention` has no binary form"
    assert found["attention"].weight_shape == (24, 8)
    out = found["attention.out_proj"]
    assert "its weight is read by `" in out.obstacle
    assert "never called" in out.obstacle
    assert (found["attention"].n_macs, out.n_macs) == (4 * 24 * 8, 4 * 64)
    assert n_params(graph) == sum(p.numel() for p in Attention().parameters())
    assert graph.other_bytes == 0


class Odd(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 2


def _around(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.GELU(), layer, nn.Flatten(), nn.Linear(4 * 64, 2))


def _normed() -> nn.Module:
    return nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1))


def _hooked() -> nn.Module:
    layer = nn.Conv2d(4, 4, 1)
    layer.register_forward_hook(lambda m, a, out: out + 1)
    return layer


OBSTACLES = {
    "plain": (nn.Conv2d(4, 4, 3, padding=1), ""),
    "reflect": (nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), ""),
    "grouped": (nn.Conv2d(4, 4, 1, groups=2), ""),
    "Conv2dSame": (Conv2dSame(4, 4, 3), ""),
    "own-forward": (Odd(4, 4, 1), "`Odd` has its own forward"),
    "standardized": (StdConv2d(4, 4, 1), ""),
    "parametrized": (
        _normed(),
        "its weight is computed (weight norm or another parametrization)",
    ),
    "hooked": (_hooked(), "it has forward hooks, which a binary layer would lose"),
    "transposed": (nn.ConvTranspose2d(4, 4, 1), "`ConvTranspose2d` has no binary form"),
}


@pytest.mark.parametrize(("layer", "obstacle"), OBSTACLES.values(), ids=OBSTACLES)
def test_obstacles_in_words(layer: nn.Module, obstacle: str) -> None:
    graph = trace(_around(layer), (3, 8, 8))
    found = {r.name: r for r in graph.layers}
    assert found["2"].obstacle == obstacle


def test_timm_linear_is_no_obstacle() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 4), TimmLinear(4, 4), nn.Linear(4, 2))
    assert facts(network)["2"].obstacle == ""


def test_hidden_unused_and_constant_layers_say_so() -> None:
    class Hiding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x) if x.abs().sum() >= 0 else x

    class Root(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.hiding, self.head = nn.Conv2d(3, 4, 1), Hiding(), nn.Linear(4, 2)
            self.spare, self.bias = nn.Linear(4, 4), nn.Linear(2, 4)
            self.register_buffer("table", torch.zeros(1, 2))

        def forward(self, x: Tensor) -> Tensor:
            x = self.hiding(self.stem(x)).mean((2, 3)) + self.bias(self.table)
            return self.head(x)

    graph = trace(Root(), (3, 8, 8))
    found = by_name(graph)
    assert found["spare"].obstacle == NEVER_RUNS
    assert (found["spare"].n_macs, found["spare"].output_shape) == (0, ())
    assert found["hiding.conv"].unseen.startswith("inside `hiding`, which cannot be traced: ")
    assert found["hiding.conv"].obstacle == ""
    assert found["hiding.conv"].n_macs == 64 * 16
    assert found["bias"].obstacle == "its input does not depend on the image"
    assert not found["bias"].is_first
    assert graph.other_bytes == 8  # the table


def test_a_layer_whose_forward_is_called_directly_is_no_candidate() -> None:
    class Direct(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (nn.Conv2d(3, 3, 1) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            return self.c(self.b.forward(self.a(x)))

    assert "its own forward is never called" in facts(Direct())["b"].obstacle


def test_an_alias_is_one_layer_under_its_first_name() -> None:
    class Aliased(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
            self.again = self.b

        def forward(self, x: Tensor) -> Tensor:
            return self.a(self.again(self.b(self.a(x))))

    found = facts(Aliased())
    assert list(found) == ["a", "b"]
    assert found["b"].n_macs == 2 * 64 * 9
    assert found["a"].is_first
    assert found["a"].is_last


def test_an_auxiliary_head_that_only_trains_never_runs() -> None:
    class Auxiliary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.head, self.aux = (nn.Linear(4, 4) for _ in range(4))

        def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
            x = self.b(F.gelu(self.a(x.flatten(1)[:, :4])))
            return (self.head(x), self.aux(x)) if self.training else self.head(x)

    found = facts(Auxiliary())
    assert found["aux"].obstacle == NEVER_RUNS
    assert found["head"].is_last
    assert not found["b"].is_last


def test_a_list_is_traced_in_training_mode_where_both_modes_return_one() -> None:
    class Features(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
            self.norm = nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> list[Tensor]:
            x = F.dropout(self.a(x), 0.5, self.training)
            return [x, self.norm(self.b(x))]

    traced = trace_graph(Features(), (3, 8, 8))
    x = torch.ones(2, 3, 8, 8)
    assert not torch.equal(traced.train()(x)[0], traced.eval()(x)[0])  # dropout is not frozen
    found = facts(Features())
    assert not found["a"].is_last
    assert not found["b"].is_last  # a norm follows


def test_channels_of_activations_are_one_where_a_slope_per_channel_does_not_fit() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 8, 1), nn.Conv2d(8, 4, 1)
            self.act, self.tokens = nn.ReLU(), nn.ReLU()
            self.d, self.e = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.c(self.act(self.b(self.act(self.a(x)))))
            x = self.d(F.relu(x).permute(0, 2, 3, 1))
            return self.e(F.relu6(self.tokens(x).mean((1, 2)) - 1))

    graph = trace(Shared(), (3, 8, 8))
    assert graph.activation_channels == {"act": 1, "relu()": 1, "relu6()": 4}


def test_trace_leaves_the_network_and_its_mode() -> None:
    network = timm.create_model("test_resnet").train()
    network.bn1.eval()
    state = {k: v.clone() for k, v in network.state_dict().items()}
    trace(network, SIZE)
    assert network.training
    assert not network.bn1.training
    assert all(torch.equal(state[k], v) for k, v in network.state_dict().items())


def test_graph_nodes_carry_shapes_at_a_batch_of_two() -> None:
    traced = trace_graph(timm.create_model("test_resnet"), SIZE)
    assert traced.graph.output_node().args[0].meta["shape"] == (2, 1000)
    assert traced.meta["opaque"] == {}


def test_a_network_without_layers_is_an_error() -> None:
    with pytest.raises(TraceError, match="expected a network with convolutions or linear layers"):
        trace(nn.Sequential(nn.ReLU()), (3, 8, 8))
