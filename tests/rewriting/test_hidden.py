"""What a rewrite adds at the root changes no place that the source's code counts by."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import irbin
from irbin import SourceOptions

SIZE = (3, 8, 8)


def sequential():
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 4),
    )


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 32, 3, padding=1)
        self.norm, self.head = nn.BatchNorm2d(32), nn.Linear(32, 4)

    def forward(self, x):
        return self.head(self.norm(self.conv(F.relu(self.stem(x)))).mean((2, 3)))


def converted(source, **options):
    torch.manual_seed(0)
    how = SourceOptions(input_size=SIZE, mean=(0.5,) * 3, std=(0.5,) * 3)
    return irbin.convert(source, source_options=how, **options)


@pytest.fixture(params=["none", "bireal"], ids=["its own forward", "a rewritten forward"])
def network(request):
    return converted(sequential(), shortcut=request.param).module.eval()


def unchanged(module):
    return module


def again(module):
    return pickle.loads(pickle.dumps(copy.deepcopy(module)))


@pytest.mark.slow
@pytest.mark.parametrize("way", [unchanged, again])
def test_the_places_of_a_sequential_are_the_sources(network, way):
    module = way(network)
    assert len(module) == 9
    assert isinstance(module[-1], nn.Linear)
    assert module[8] is module[-1] is list(module)[-1] is list(module.children())[-1]
    assert [n for n, _ in module.named_children()] == list("012345678")
    with pytest.raises(IndexError):
        module[9]
    cut = nn.Sequential(*list(module.children())[:-1])
    x = torch.randn(2, *SIZE)
    assert cut(x).shape == (2, 16)
    assert torch.equal(module[:-1](x), cut(x))
    assert type(module[:-1]) is nn.Sequential
    assert torch.equal(module(x), network(x))


@pytest.mark.slow
def test_a_sequential_that_is_cut_and_grown_keeps_its_phase(network):
    keys = set(network.state_dict())
    x = torch.randn(2, *SIZE)
    module = copy.deepcopy(network)
    del module[-1]
    module.append(nn.Linear(16, 7))
    assert len(module) == 9
    assert set(module.state_dict()) == keys
    module[-1] = nn.Linear(16, 5)
    module.insert(0, nn.Identity())
    assert len(module) == 10
    assert isinstance(module.pop(0), nn.Identity)
    assert set(module.state_dict()) == keys
    assert nn.Sequential(*module)(x).shape == (2, 5)


@pytest.mark.slow
def test_what_is_hidden_has_state_modes_and_devices(network):
    assert {"ede.t", "ede.k"} <= set(network.state_dict())
    assert network[3].phase is network.ede
    assert network.train().ede.training
    assert not network.eval().ede.training
    moved = copy.deepcopy(network).double()
    assert moved.ede.t.dtype == torch.float64
    seen = []
    network.apply(seen.append)
    assert network.ede in seen


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["hardtanh", "prelu"])
def test_added_activations_and_bypasses_are_no_children(activation):
    source = Functional()
    module = converted(source, activation=activation, shortcut="bireal").module
    names = [n for n, _ in module.named_children()]
    assert names[-1] == "head"
    assert set(names) == {"ede", *(n for n, _ in source.named_children())}
    assert "activation_relu" in dict(module.named_modules())
    assert module.half().conv.weight.dtype == torch.float16
    assert {p.dtype for p in module.parameters()} == {torch.float16}
    names = {n for n, _ in module.named_parameters()}
    assert ("activation_relu.weight" in names) == (activation == "prelu")


@pytest.mark.slow
def test_a_sequential_is_compiled_and_trained(network):
    x = torch.randn(4, *SIZE)
    compiled = torch.compile(copy.deepcopy(network), backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), network(x))
    network.train()(x).sum().backward()
    assert network[3].weight.grad is not None


@pytest.mark.slow
def test_a_folder_of_a_sequential_network_has_the_keys_it_had(tmp_path):
    network = converted(sequential())
    state = network.module.state_dict()
    assert list(state)[-2:] == ["ede.t", "ede.k"]
    other = converted(sequential()).module
    other.load_state_dict(state)
    x = torch.randn(2, *SIZE)
    assert torch.equal(other.eval()(x), network.module.eval()(x))
    record = irbin.export(network, tmp_path / "packed")
    packed = irbin.load(record.path)
    torch.testing.assert_close(packed(x), network.module(x).detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::Warning")
def test_what_onnx_export_traces_has_operators_alone(network, monkeypatch):
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    x = torch.randn(2, *SIZE)
    traced = torch.jit.trace(network, (x,))
    assert "PythonOp" not in str(traced.inlined_graph)
    assert "^_" not in str(traced.inlined_graph)
    torch.testing.assert_close(traced(x), network(x))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::Warning")
def test_a_converted_network_is_written_as_onnx(network, tmp_path):
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "network.onnx"
    torch.onnx.export(network, (torch.randn(2, *SIZE),), str(path), dynamo=False)
    onnx.checker.check_model(onnx.load(str(path)))
