"""Facts where tracing fails, of standardized weights, and of layers whose output's size matters."""

from __future__ import annotations

from types import MethodType

import pytest
import torch
import torch.nn.functional as F
from timm.layers import ScaledStdConv2d, StdConv2d
from torch import Tensor, nn

from irbin.planning.plan import make_plan
from irbin.records.plan import LayerRecord, PlanOptions
from irbin.tracing.facts import OBSERVED
from irbin.tracing.trace import trace


class Untraceable(nn.Module):
    """Chooses its way by the image's values, so fx cannot follow any of it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.relu, self.a = nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3)
        self.norm, self.b = nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3)
        self.gate, self.head = nn.Conv2d(8, 8, 1), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x) if x.abs().sum() >= 0 else x
        x = self.b(self.norm(self.a(self.relu(x))))
        x = x * self.gate(x.mean((2, 3), keepdim=True)).sigmoid()
        return self.head(x.mean((2, 3)))


BLIND = (
    "input never negative (as seen in a run; tracing failed here, so no ReLU before it can be "
    "replaced)"
)


def found(module: nn.Module, size: tuple[int, int, int] = (3, 16, 16)) -> dict[str, LayerRecord]:
    return {layer.name: layer for layer in trace(module, size).layers}


def test_an_untraceable_network_is_planned_from_the_order_in_which_it_ran() -> None:
    torch.manual_seed(0)
    layers = found(Untraceable())
    assert list(layers) == ["stem", "a", "b", "gate", "head"]
    assert all(layer.unseen.startswith("cannot trace `Untraceable") for layer in layers.values())
    assert [n for n, r in layers.items() if r.is_first] == ["stem"]
    assert [n for n, r in layers.items() if r.is_last] == ["head"]
    assert [n for n, r in layers.items() if r.is_gate] == ["gate"]
    assert [n for n, r in layers.items() if r.never_negative] == ["a"]
    assert layers["a"].never_negative == OBSERVED
    assert not any(r.activations or r.is_shortcut or r.obstacle for r in layers.values())


def test_layers_that_only_a_forward_set_on_the_network_calls_are_told_as_such() -> None:
    class Stem(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return self[0](x)

    net = Stem(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3))
    net.forward = MethodType(nn.Sequential.forward, net)
    layers = found(net)
    assert not layers["0"].unseen
    assert all(layers[name].unseen.startswith("its `forward` was set on") for name in "12")


def test_an_untraceable_network_keeps_what_a_run_shows_to_be_blind() -> None:
    torch.manual_seed(0)
    graph = trace(Untraceable(), (3, 16, 16))
    assert make_plan(graph, PlanOptions()).binary_names == ("b",)
    assert make_plan(graph, PlanOptions(bits="1w32a")).binary_names == ("a", "b")
    reasons = {d.layer.name: d.reason for d in make_plan(graph, PlanOptions()).decisions}
    assert reasons["a"] == BLIND


@pytest.mark.parametrize("seed", range(8))
def test_a_pooled_relu_has_no_zeros_and_is_blind_whatever_the_weights(seed: int) -> None:
    class Pooled(Untraceable):
        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x) if x.abs().sum() >= 0 else x
            x = F.avg_pool2d(F.relu(x + 0.5), 2)
            x = self.b(self.norm(self.a(x)))
            return self.head((x * self.gate(x).sigmoid()).mean((2, 3)))

    torch.manual_seed(seed)
    plan = make_plan(trace(Pooled(), (3, 16, 16)), PlanOptions())
    assert {d.layer.name: d.reason for d in plan.decisions}["a"] == BLIND


def test_an_input_that_is_always_negative_is_blind_too() -> None:
    class Logarithms(Untraceable):
        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x) if x.abs().sum() >= 0 else x
            x = self.b(self.norm(self.a(F.logsigmoid(x))))
            return self.head((x * self.gate(x).sigmoid()).mean((2, 3)))

    torch.manual_seed(0)
    plan = make_plan(trace(Logarithms(), (3, 16, 16)), PlanOptions())
    assert {d.layer.name: d.reason for d in plan.decisions}["a"] == (
        "input always negative (as seen in a run)"
    )


def test_a_constant_input_is_an_obstacle_without_a_graph_too() -> None:
    class Biased(Untraceable):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Linear(2, 4)
            self.register_buffer("table", torch.ones(1, 2))

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + self.bias(self.table)

    assert found(Biased())["bias"].obstacle == "its input does not depend on the image"


@pytest.mark.parametrize(
    "table",
    [
        lambda x: torch.arange(x.shape[2] * 2.0, device=x.device).view(-1, 2),
        lambda x: torch.zeros_like(x)[:, :2].mean((2, 3)) + 1,
        lambda x: x.new_ones(1, 2),
    ],
    ids=["shape", "zeros_like", "new_ones"],
)
def test_a_table_made_from_the_shape_of_the_image_is_constant(table) -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.body, self.head = (
                nn.Conv2d(3, 4, 1),
                nn.Conv2d(4, 4, 1),
                nn.Linear(4, 2),
            )
            self.norm, self.positions = nn.BatchNorm2d(4), nn.Linear(2, 4)

        def forward(self, x: Tensor) -> Tensor:
            y = self.norm(self.body(self.stem(x))).mean((2, 3))
            return self.head(y + self.positions(table(x)).mean(0))

    layers = found(Positions())
    constant = "its input does not depend on the image"
    assert {n for n, r in layers.items() if r.obstacle == constant} == {"positions"}
    assert not layers["positions"].unseen


def test_first_and_last_of_an_opaque_part_are_those_of_the_network_where_it_stands() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(Untraceable(), nn.Linear(4, 4))
    layers = found(network)
    assert [n for n, r in layers.items() if r.is_first] == ["0.stem"]
    assert [n for n, r in layers.items() if r.is_last] == ["1"]
    assert layers["0.b"].unseen.startswith("inside `0`, which cannot be traced: ")
    assert layers["1"].unseen == ""


@pytest.mark.parametrize(
    ("after", "keeps_size"),
    [
        ([nn.BatchNorm2d(8)], False),
        ([nn.GroupNorm(2, 8)], False),
        ([nn.MaxPool2d(2), nn.BatchNorm2d(8)], False),
        ([nn.Dropout(), nn.Identity(), nn.BatchNorm2d(8)], False),
        ([nn.ReLU(), nn.BatchNorm2d(8)], True),
        ([nn.GELU()], True),
        ([nn.Identity()], True),
    ],
    ids=["batch", "group", "pooled", "dropped", "activated", "gelu", "none"],
)
def test_the_size_of_an_output_matters_unless_a_norm_reads_it(after, keeps_size) -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), *after, nn.Conv2d(8, 2, 1))
    assert found(network, (3, 8, 8))["1"].keeps_size is keeps_size


def test_every_reader_of_an_output_has_to_be_a_norm() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.conv = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1)
            self.norm, self.head = nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(self.stem(x))
            return self.head(x + self.norm(x))

    assert found(Residual(), (3, 8, 8))["conv"].keeps_size is True


def test_standardized_weights_have_a_size_of_their_own_and_gains_are_counted() -> None:
    layers = [nn.Conv2d(3, 8, 1), StdConv2d(8, 8, 3, padding=1), ScaledStdConv2d(8, 8, 3)]
    records = found(nn.Sequential(*layers, nn.Conv2d(8, 2, 1)), (3, 8, 8))
    assert not records["1"].keeps_size
    assert not records["2"].keeps_size
    assert (records["1"].has_gain, records["2"].has_gain) == (False, True)
    graph = trace(nn.Sequential(*layers, nn.Conv2d(8, 2, 1)), (3, 8, 8))
    assert graph.n_other_params == 0  # the gain belongs to its layer
    plan = make_plan(graph, PlanOptions())
    sizes = {d.layer.name: (d.n_params, d.packed_bytes) for d in plan.decisions}
    assert sizes["1"] == (8 * 72, 8 * 9 + 8 * 1)
    assert sizes["2"] == (8 * 72 + 8 + 8, 8 * 9 + 8 * 4 + 8 * 4)


def test_layers_that_share_a_weight_name_each_other() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), *(nn.Conv2d(4, 4, 1) for _ in range(4)))
    network[3].weight = network[2].weight = network[1].weight
    layers = found(network)
    assert [layers[name].tied_to for name in "0123"] == [(), ("2", "3"), ("1", "3"), ("1", "2")]
    assert not any(layer.obstacle for layer in layers.values())


def test_a_shared_weight_that_something_else_reads_is_an_obstacle_of_all_its_layers() -> None:
    class Reads(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            x = self[2](self[1](self[0](x)))
            return self[3](F.conv2d(x, self[1].weight))

    network = Reads(nn.Conv2d(3, 4, 1), *(nn.Conv2d(4, 4, 1) for _ in range(3)))
    network[2].weight = network[1].weight
    layers = found(network)
    assert layers["1"].obstacle == layers["2"].obstacle == "its weight is also read by `conv2d`"


CONSTANT = "its input does not depend on the image"


class Around(nn.Module):
    """A stem, a layer `fed` by whatever a case makes of images (batch, 4, 8, 8), and a head."""

    def __init__(self, middle: nn.Module, channels: int = 4) -> None:
        super().__init__()
        self.stem, self.norm, self.middle = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), middle
        self.fed, self.after = nn.Conv2d(channels, 4, 1), nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x))
        return self.head((x + self.after(self.fed(self.middle(x)))).mean((2, 3)))


class Applied(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class OverOne(nn.Module):
    """A norm over one number, which is its offset whatever the number (csatv2's at 64 pixels)."""

    def __init__(self, norm: nn.Module, mean: float = 0.0) -> None:
        super().__init__()
        self.squeeze, self.norm, self.mean = nn.Conv2d(4, 1, 1), norm, mean
        self.grow, self.act = nn.Linear(1, 4), nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x).flatten(2).mT + self.mean
        x = self.norm(x.flatten(0, 1)).view_as(x)
        return self.act(self.grow(x)).mT.unflatten(2, (8, 8))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("norm", [nn.LayerNorm(1), nn.GroupNorm(1, 1)], ids=["layer", "group"])
def test_what_a_norm_over_one_number_gives_does_not_depend_on_the_image(norm, seed: int) -> None:
    """Group norm leaves a remainder of rounding, which is no image either."""
    torch.manual_seed(seed)
    layers = found(Around(OverOne(norm, mean=0.5)), (3, 8, 8))
    constant = {n for n, r in layers.items() if r.obstacle == CONSTANT}
    assert constant == {"middle.grow", "fed"}
    assert not any(r.unseen for r in layers.values())


def test_the_query_of_a_class_token_alone_is_constant_though_it_was_joined_to_the_image() -> None:
    class Token(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token, self.norm = nn.Parameter(torch.zeros(1, 1, 4)), nn.LayerNorm(4)
            self.query, self.key = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            joined = torch.cat([self.token.expand(x.shape[0], -1, -1), x.flatten(2).mT], 1)
            joined = self.norm(joined)
            q, k = self.query(joined[:, :1]), self.key(joined)
            return x + ((q @ k.mT).softmax(-1) @ joined).mT.unsqueeze(-1)

    layers = found(Around(Token()), (3, 8, 8))
    assert {n for n, r in layers.items() if r.obstacle == CONSTANT} == {"middle.query"}
    assert not any(r.unseen for r in layers.values())


@pytest.mark.parametrize(
    "middle",
    [
        nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)),
        nn.Sequential(*[nn.Conv2d(4, 4, 1) for _ in range(80)]),
    ],
    ids=["a norm that starts at zero", "no norms, where biases drown the image"],
)
def test_what_weights_hide_at_first_still_depends_on_the_image(middle) -> None:
    with torch.no_grad():
        for m in middle.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.weight.zero_()
    assert not any(r.obstacle for r in found(Around(middle), (3, 8, 8)).values())


@pytest.mark.parametrize("seed", range(4))
def test_one_sign_that_tracing_does_not_know_of_is_seen_in_a_run(seed: int) -> None:
    torch.manual_seed(seed)
    reasons = {}
    for name, function in {
        "never": torch.cosh,
        "always": lambda x: -x.cosh(),
        "both": torch.sinh,
        "behind a ReLU": lambda x: x.relu(),
    }.items():
        plan = make_plan(
            trace(
                Around(nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), Applied(function))),
                (3, 8, 8),
            ),
            PlanOptions(),
        )
        reasons[name] = {d.layer.name: d.reason for d in plan.decisions}["fed"]
    assert reasons == {
        "never": "input never negative (as seen in a run)",
        "always": "input always negative (as seen in a run)",
        "both": "binary",
        "behind a ReLU": "binary",
    }


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "in_front",
    [
        [nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)],
        [nn.Conv2d(4, 4, 1), nn.GroupNorm(1, 4)],
        [nn.Conv2d(4, 4, 1)],
    ],
    ids=["batch norm", "group norm", "no norm"],
)
@pytest.mark.parametrize("is_traced", [True, False], ids=["traced", "untraced"])
def test_one_sign_by_the_chance_of_many_values_is_none(in_front, seed, is_traced) -> None:
    """A maximum of 64: an offset that training learns makes it negative."""
    torch.manual_seed(seed)
    network = Around(nn.Sequential(*in_front, nn.MaxPool2d(15, 1, 7)))
    for m in network.modules():
        if isinstance(m, nn.Conv2d):
            m.reset_parameters()
    if not is_traced:
        network = Chosen(network)
    layers = found(network, (3, 8, 8))
    assert not any(r.never_negative or r.always_negative for r in layers.values())
    assert all(bool(r.unseen) is not is_traced for r in layers.values())


class Chosen(nn.Sequential):
    """Untraceable: looks at the image."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.abs().sum() >= 0 else x


def test_a_layer_that_random_images_do_not_reach_is_not_called_constant() -> None:
    class OnBlack(Untraceable):
        def __init__(self) -> None:
            super().__init__()
            self.black = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            y = super().forward(x)
            return self.black(y) if x.abs().sum() == 0 else y

    assert not found(OnBlack())["black"].obstacle


def test_a_network_that_takes_no_random_images_is_planned_by_what_tracing_sees(caplog) -> None:
    class OnlyBlack(Untraceable):
        def forward(self, x: Tensor) -> Tensor:
            if x.abs().sum() > 0:
                raise ValueError("not black")
            return super().forward(x)

    layers = found(OnlyBlack())
    assert not any(r.never_negative or r.obstacle for r in layers.values())
    (told,) = caplog.messages
    assert told.startswith("the network does not run on random images (ValueError: not black")


def test_without_memory_there_is_no_plan_instead_of_another_one() -> None:
    class Large(Untraceable):
        def forward(self, x: Tensor) -> Tensor:
            if x.abs().sum() > 0:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: big")
            return super().forward(x)

    with pytest.raises(RuntimeError, match="can't allocate memory: big"):
        found(Large())


def test_planning_draws_no_random_numbers_of_the_callers() -> None:
    network = Around(Applied(lambda x: x + torch.rand_like(x)))
    before = torch.get_rng_state()
    found(network, (3, 8, 8))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.slow
def test_running_statistics_that_fit_nothing_hide_no_image() -> None:
    """Those of an untrained network: behind twenty batch norms hardly anything of it is left."""
    torch.manual_seed(0)
    middle = nn.Sequential(
        *(nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)) for _ in range(20))
    )
    with torch.no_grad():
        for m in middle.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.running_var.fill_(100.0)
                m.bias.fill_(0.1)
    assert not any(r.obstacle for r in found(Around(middle), (3, 8, 8)).values())
