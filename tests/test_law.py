"""What converts trains, is exported, and answers packed as trained; else it says one line."""

import random
import types

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, prune

import irbin
from irbin import SourceOptions

SIZE = (3, 12, 12)


class Net(nn.Module):
    """A stem, a middle that the case makes, a head."""

    def __init__(self, middle=None):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.conv1, self.norm1 = nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.middle = middle or nn.Identity()
        self.conv2, self.norm2 = nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.relu, self.head = nn.ReLU(), nn.Linear(16, 4)

    def forward(self, x):
        x = self.relu(self.norm1(self.conv1(self.relu(self.norm(self.stem(x))))))
        return self.head(self.norm2(self.conv2(self.middle(x))).mean((2, 3)))


def of(function):
    class Function(nn.Module):
        def forward(self, x):
            return function(x)

    return lambda: Net(Function())


def prepared(prepare):
    def make():
        net = Net()
        prepare(net)
        return net

    return make


def with_compiled_parts():
    net = Net()
    net.conv1 = torch.compile(net.conv1, backend="eager")
    return net


def with_compiled_modules():
    net = Net()
    net.conv1.compile(backend="eager")
    net.compile(backend="eager")
    return net


def with_compiled_forwards():
    net = Net()
    net.conv1.forward = torch.compile(net.conv1.forward, backend="eager")
    net.forward = torch.compile(net.forward, backend="eager")
    return net


def lazy():
    net = Net()
    net.conv1, net.head = nn.LazyConv2d(16, 3, padding=1), nn.LazyLinear(4)
    return net


def half():
    return Net().half()


def tied():
    net = Net()
    net.conv2.weight = net.conv1.weight
    return net


class Encoder(nn.Module):
    """torch's own encoder, which has a fast path past its layers in evaluation."""

    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 4, 4)
        layer = nn.TransformerEncoderLayer(
            16, 2, 32, dropout=0.0, batch_first=True, norm_first=True
        )
        self.norm = nn.LayerNorm(16)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        return self.head(self.norm(self.encoder(self.patch(x).flatten(2).mT)).mean(1))


class NormOverOneChannel(nn.Module):
    """Attention over places with one channel (csatv2): behind the norm nothing is of the image."""

    def __init__(self):
        super().__init__()
        self.squeeze, self.norm = nn.Conv2d(16, 1, 1), nn.LayerNorm(1)
        self.grow, self.act, self.shrink = nn.Linear(1, 4), nn.GELU(), nn.Linear(4, 1)
        nn.init.constant_(self.grow.bias, -1.0)

    def forward(self, x):
        one = self.squeeze(x).flatten(2).mT
        one = one + self.shrink(self.act(self.grow(self.norm(one))))
        return x + one.mT.unflatten(2, (12, 12))


class Functional(Net):
    """ReLUs are functions and an argument is optional, so converting rewrites the forward."""

    def forward(self, x, shift=None):
        x = F.relu(self.norm1(self.conv1(F.relu(self.norm(self.stem(x))))))
        y = self.head(F.dropout(self.conv2(x), 0.0, self.training).mean((2, 3)))
        return y if shift is None else y + shift


class DropsItsBias(nn.Conv2d):
    def forward(self, x):
        return F.conv2d(x, self.weight, None, self.stride, self.padding)


class ReadsInPart(Net):
    """The head's weight is read without its bias, the bias of another one without its weight."""

    def __init__(self):
        super().__init__(DropsItsBias(16, 16, 3, padding=1))
        self.other = nn.Linear(16, 4)

    def forward(self, x):
        x = self.relu(self.norm1(self.conv1(self.relu(self.norm(self.stem(x))))))
        x = self.norm2(self.conv2(self.middle(x))).mean((2, 3))
        return F.linear(x, self.head.weight, self.other.bias)


NETWORKS = {
    "biases that nothing reads": ReadsInPart,
    "an encoder of torch's": Encoder,
    "activations that are functions": Functional,
    "plain": Net,
    "tied": tied,
    "weight norm": prepared(lambda n: parametrizations.weight_norm(n.stem)),
    "weight norm of a binary candidate": prepared(lambda n: parametrizations.weight_norm(n.conv1)),
    "spectral norm": prepared(lambda n: parametrizations.spectral_norm(n.stem)),
    "pruned": prepared(lambda n: prune.l1_unstructured(n.conv1, "weight", 0.5)),
    "pruned biases": prepared(lambda n: prune.l1_unstructured(n.stem, "bias", 0.5)),
    "instance norm": lambda: Net(nn.InstanceNorm2d(16, affine=True)),
    "instance norm without weights": lambda: Net(nn.InstanceNorm2d(16)),
    "a norm over one channel": lambda: Net(NormOverOneChannel()),
    "group norm": lambda: Net(nn.GroupNorm(4, 16)),
    "softmax over channels": of(lambda x: x.softmax(1)),
    "minus its own mean": of(lambda x: x - x.mean((1, 2, 3), keepdim=True)),
    "attention of its own": of(
        lambda x: F.scaled_dot_product_attention(*[x.flatten(2)] * 3).reshape(x.shape)
    ),
    "half": half,
    "bfloat16": lambda: Net().bfloat16(),
    "double": lambda: Net().double(),
    "compiled": lambda: torch.compile(Net(), backend="eager"),
    "modules that are compiled in place": with_compiled_modules,
    "modules in a compiled wrapper": with_compiled_parts,
    "forwards that are compiled alone": with_compiled_forwards,
    "modules whose weights come with the first images": lazy,
}

FACTORIES = {
    "module:tests.test_law:half": "its weights were float16",
    "module:tests.test_law:with_compiled_modules": "`compile()`",
    "module:tests.test_law:with_compiled_parts": "the parts behind `torch.compile`",
    "module:tests.test_law:with_compiled_forwards": "a `forward` that was compiled",
    "module:tests.test_law:lazy": "",
}

REFUSED = {
    "a branch on values": (of(lambda x: x if x.sum() > 0 else -x), "depends on the images"),
    "dropout that is always on": (of(lambda x: F.dropout(x)), "draws random numbers"),
    "an operator of none": (
        of(lambda x: torch.special.bessel_j0(x) * x),
        "is not one that a packed network may use",
    ),
}

HOW = SourceOptions(input_size=SIZE, mean=(0.5,) * 3, std=(0.5,) * 3)


@pytest.mark.slow
@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_what_converts_trains_and_is_exported_and_answers_alike(make, tmp_path):
    torch.manual_seed(0)
    network = irbin.convert(make(), source_options=HOW)
    module = network.module.train()
    optimizer = torch.optim.SGD(module.parameters(), 0.05)
    for _ in range(2):
        optimizer.zero_grad()
        module(torch.randn(8, *SIZE)).square().sum().backward()
        optimizer.step()
    record = irbin.export(network, tmp_path / "packed")
    assert record.tensor_bytes >= record.predicted_bytes
    packed, x = irbin.load(tmp_path / "packed"), torch.randn(40, *SIZE)
    with torch.no_grad():
        wanted = module.eval()(x)
    assert torch.allclose(packed(x), wanted, atol=1e-3)
    assert torch.allclose(torch.cat([packed(one[None]) for one in x]), packed(x), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("spec", "words"), FACTORIES.items())
def test_what_a_factory_makes_is_taken_as_a_live_network_is(spec, words, tmp_path, caplog):
    torch.manual_seed(0)
    network = irbin.convert(spec, tmp_path / "converted", source_options=HOW)
    assert words in " ".join(r.getMessage() for r in caplog.records if r.name == "irbin")
    again = irbin.open_network(tmp_path / "converted").module.eval()
    irbin.export(tmp_path / "converted", tmp_path / "packed")
    x = torch.randn(4, *SIZE)
    with torch.no_grad():
        wanted = network.module.eval()(x)
        assert torch.equal(again(x), wanted)
    assert torch.allclose(irbin.load(tmp_path / "packed")(x), wanted, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("make", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_exported_is_refused_before_it_trains(make, words, capfd):
    with pytest.raises(irbin.IrbinError) as caught:
        irbin.convert(make(), source_options=HOW)
    message = str(caught.value)
    assert words in message
    assert "test_law.py:" in message
    assert "\n" not in message
    assert "def forward" not in "".join(capfd.readouterr())


def test_one_dimensional_convolutions_are_refused_in_one_line():
    net = nn.Sequential(nn.Conv1d(3, 16, 3), nn.Tanh(), nn.Conv1d(16, 16, 3), nn.Flatten())
    with pytest.raises(irbin.IrbinError, match=r"^`input_size`: expected .*, got \(3, 64\).*$"):
        irbin.convert(net, source_options=SourceOptions(input_size=(3, 64)))


@pytest.mark.slow
def test_images_that_meet_are_told_of_at_conversion_and_refused_at_export(tmp_path, caplog):
    norm = nn.BatchNorm2d(16, track_running_stats=False)
    network = irbin.convert(Net(norm), source_options=HOW)
    told = [r.getMessage() for r in caplog.records if r.name == "irbin"]
    assert any("can be trained, but not exported" in t and "in `middle`" in t for t in told)
    with pytest.raises(irbin.IrbinError, match=r"in `middle` .* mixes the images of a batch"):
        irbin.export(network, tmp_path / "packed")
    assert not (tmp_path / "packed").exists()


@pytest.mark.slow
def test_another_default_type_and_inference_mode_change_nothing():
    torch.manual_seed(0)
    net = Net()
    wanted = irbin.convert(net, source_options=HOW).module.state_dict()
    torch.set_default_dtype(torch.float64)
    try:
        found = irbin.convert(net, source_options=HOW).module.state_dict()
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.inference_mode():
        inside = irbin.convert(net, source_options=HOW).module.state_dict()
    for state in (found, inside):
        assert {n: t.dtype for n, t in state.items()} == {n: t.dtype for n, t in wanted.items()}
        assert all(torch.equal(t, wanted[n]) for n, t in state.items())


@pytest.mark.slow
def test_a_packed_network_of_another_image_size(tmp_path):
    network = irbin.convert(Net(), source_options=HOW)
    irbin.export(network, tmp_path / "packed", source_options=SourceOptions(input_size=(3, 9, 20)))
    packed, x = irbin.load(tmp_path / "packed"), torch.randn(2, 3, 9, 20)
    assert packed.manifest.source.preprocessing.input_size == (3, 9, 20)
    with torch.no_grad():
        assert torch.allclose(packed(x), network.module.eval()(x), atol=1e-3)
    for size, words in (((1, 12, 12), r"expected \(3, height, width\)"), ((3, 0, 0), "not run")):
        how = SourceOptions(input_size=size)
        with pytest.raises(irbin.IrbinError, match=words):
            irbin.export(network, tmp_path / "other", source_options=how)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("law") / "packed"
    irbin.export(irbin.convert(Net(), source_options=HOW), folder)
    return irbin.load(folder)


@pytest.mark.slow
def test_the_state_of_a_packed_network_loads_back_and_no_other(packed):
    state = nn.Sequential(packed).state_dict()
    assert {n for n in state if n.endswith(".bits")} == {"0.conv1.bits", "0.conv2.bits"}
    nn.Sequential(packed).load_state_dict(state)
    state["0.head.weight"] = state["0.head.weight"] + 1
    with pytest.raises(
        RuntimeError, match=r"`0\.head\.weight`: a packed network keeps the weights"
    ):
        nn.Sequential(packed).load_state_dict(state)


@pytest.mark.parametrize("kind", [torch.uint8, torch.int64, torch.bool])
def test_bytes_are_no_images(packed, kind):
    with pytest.raises(
        irbin.IrbinError, match=r"expected floating images, got .*; bytes .*are for `model"
    ):
        packed(torch.zeros(2, *SIZE, dtype=kind))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    "trace", [torch.jit.trace, torch.export.export], ids=["torch.jit.trace", "torch.export"]
)
def test_tracing_a_packed_network_names_the_way(packed, trace):
    with pytest.raises(irbin.IrbinError, match=r"torch cannot trace or script; give .* trained ne"):
        trace(packed, (torch.randn(2, *SIZE),))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("script", [torch.jit.script, torch.fx.symbolic_trace])
@pytest.mark.parametrize("wrap", [lambda net: net, nn.Sequential], ids=["alone", "within"])
def test_scripting_a_packed_network_names_the_way(packed, script, wrap):
    with pytest.raises(irbin.IrbinError, match=r"torch cannot trace or script; give .* trained ne"):
        script(wrap(packed))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("wrap", [lambda net: net, nn.Sequential], ids=["alone", "within"])
def test_scripting_a_converted_network_names_the_way_and_tracing_goes(wrap):
    network = irbin.convert(Net(), source_options=HOW)
    with pytest.raises(irbin.IrbinError, match=r"TorchScript's compiler .* `torch.jit.trace`"):
        torch.jit.script(wrap(network.module))
    x = torch.randn(2, *SIZE)
    module = wrap(network.module).eval()
    assert torch.equal(torch.jit.trace(module, x)(x), module(x))


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [lambda net: net, nn.Sequential], ids=["alone", "within"])
def test_a_compiled_packed_network_answers_as_itself_without_a_warning(packed, wrap):
    images = torch.randn(3, *SIZE)
    compiled = torch.compile(wrap(packed), backend="eager")
    assert torch.equal(compiled(images), packed(images))
    assert torch.equal(compiled(images[:2]), packed(images[:2]))


class Elsewhere(Net):
    """Reads its layers from the network that it was at first, so that no copy runs its own."""

    def __init__(self):
        super().__init__()
        itself = self
        self.find = lambda: itself

    def forward(self, x):
        return Net.forward(self.find(), x)


def with_a_forward(*, traceable):
    net = Functional() if traceable else nn.Module()
    if not traceable:
        net.layers = Functional()
    act = Functional.forward if traceable else (lambda net, x: net.layers(x))
    net.forward = types.MethodType(lambda net, x: act(net, x) * 2, net)
    return net


class DrawsFromPython(Net):
    def forward(self, x):
        return super().forward(x) * random.random()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (Elsewhere, "its forward reaches the layers past `self`"),
        (lambda: with_a_forward(traceable=True), "its `forward` was set on the network itself"),
        (lambda: with_a_forward(traceable=False), "its `forward` was set on the network itself"),
        (DrawsFromPython, "`DrawsFromPython` never gives the same answer twice"),
    ],
)
def test_what_is_wrong_is_said_as_it_is(make, words):
    with pytest.raises(irbin.IrbinError, match=words):
        irbin.convert(make(), source_options=HOW)
