"""The packed network against the trained one: integers exactly, floats within rounding."""

import copy
import pickle
import threading
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from irbin.artifact.read import Artifact
from irbin.artifact.schema import Manifest
from irbin.binary.activations import RPReLU
from irbin.binary.anneal import EdePhase
from irbin.binary.layers import BinaryConv2d, BinaryLinear, Method, binary_layers
from irbin.errors import ArtifactError, UsageError
from irbin.kernels import native, reference
from irbin.program.fuse import FUSIONS
from irbin.program.fused import Fused, results
from irbin.program.lower import lower
from irbin.program.program import Program
from irbin.program.types import Node, Ref, TensorType
from irbin.records.options import Preprocessing, SourceRecord
from irbin.records.plan import Plan, PlanOptions
from irbin.runtime import engine as runtime_engine
from irbin.runtime import parts as runtime_parts
from irbin.runtime import schedule as runtime_schedule
from irbin.runtime.model import PackedModel
from irbin.runtime.parts import PLANNED_SIZES
from irbin.runtime.threads import set_num_threads

MANIFEST = Manifest(
    "0",
    "float32",
    SourceRecord("s", "timm:s", 2, Preprocessing()),
    Plan(PlanOptions(), (), (3, 8, 8), 0, 0, 0),
)


def artifact_of(net: nn.Module, input_size) -> Artifact:
    lowered = lower(net, input_size)
    return Artifact("", MANIFEST, lowered.program, lowered.tensors)


def packed(net: nn.Module, input_size) -> PackedModel:
    return PackedModel(artifact_of(net, input_size))


def binarized(layer: nn.Module, method: Method | None = None) -> nn.Module:
    kind = BinaryConv2d if isinstance(layer, nn.Conv2d) else BinaryLinear
    return kind.from_float(layer, method or Method(), EdePhase())


class Conv2dSame(nn.Conv2d):
    """Pads by its input's size, as timm's class of this name does."""


def conv(n_in: int, n_out: int, kernel, kind=nn.Conv2d, **settings) -> nn.Conv2d:
    torch.manual_seed(n_in * 100 + n_out)
    return kind(n_in, n_out, kernel, bias=False, **settings)


CONVS = {
    "1x1": conv(8, 3, 1),
    "3x3": conv(16, 5, 3, padding=1),
    "7 channels": conv(7, 4, 3, padding=1),
    "33 channels": conv(33, 4, 3, padding=1),
    "65 channels": conv(65, 2, 3),
    "stride": conv(9, 4, 3, stride=(2, 3), padding=(0, 2)),
    "dilation": conv(9, 4, 3, dilation=(2, 1), padding=2),
    "even kernel": conv(5, 4, (2, 4), padding=(1, 0)),
    "groups": conv(18, 6, 3, groups=3, padding=1),
    "depthwise": conv(10, 10, 3, groups=10, padding=1),
    "padding same": conv(5, 4, 4, padding="same"),
    "Conv2dSame": conv(5, 4, 3, kind=Conv2dSame, stride=2),
    "reflect": conv(5, 4, 3, padding=(1, 2), padding_mode="reflect"),
    "replicate": conv(5, 4, 3, padding=1, padding_mode="replicate"),
    "circular": conv(6, 4, 3, padding=1, padding_mode="circular", groups=2),
}


# torch warns of even kernels with padding "same", which is what is tested
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("layer", CONVS.values(), ids=CONVS.keys())
@pytest.mark.parametrize("bits", ["1w1a", "1w32a"])
def test_a_convolution_equals_the_trained_one_exactly(layer, bits):
    net = nn.Sequential(binarized(layer, Method(binary_activations=bits == "1w1a")))
    model = packed(net, (layer.in_channels, 7, 9))
    for n_images in (1, 3, 0):
        # whole numbers, so that the float convolution of 1w32a has nothing to round
        x = torch.randint(-3, 4, (n_images, layer.in_channels, 7, 9)).float()
        wanted = net(x) if n_images else net(torch.zeros(1, layer.in_channels, 7, 9))[:0]
        assert torch.equal(model(x), wanted)


@pytest.mark.slow
@pytest.mark.parametrize("n_in", [1, 7, 8, 31, 32, 33, 63, 64, 65])
@pytest.mark.parametrize("bits", ["1w1a", "1w32a"])
def test_a_linear_layer_equals_the_trained_one_exactly(n_in, bits):
    torch.manual_seed(n_in)
    net = nn.Sequential(
        binarized(nn.Linear(n_in, 5, bias=False), Method(binary_activations=bits == "1w1a"))
    )
    model = packed(net, (2, 3, n_in))  # two leading dimensions beside the batch
    for n_images in (1, 3, 0):
        x = torch.randint(-3, 4, (n_images, 2, 3, n_in)).float()
        assert torch.equal(model(x), net(x))


def with_thresholds(layer: nn.Module, values: torch.Tensor, **settings) -> nn.Module:
    made = binarized(layer, Method(learned_threshold=True, **settings))
    with torch.no_grad():
        made.threshold.copy_(values)
    return made


# torch warns of even kernels with padding "same", which is what is tested
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("layer", CONVS.values(), ids=CONVS.keys())
def test_a_convolution_with_thresholds_equals_the_trained_one_exactly(layer):
    torch.manual_seed(1)
    n_in = layer.in_channels
    thresholds = torch.randint(-2, 3, (n_in,)).float()  # which whole numbers meet
    thresholds[:5] = torch.tensor([0.3, 0.0, -0.0, 1e-45, 3e38])
    net = nn.Sequential(with_thresholds(layer, thresholds))
    model = packed(net, (n_in, 7, 9))
    for x in (torch.randint(-3, 4, (3, n_in, 7, 9)).float(), torch.randn(2, n_in, 7, 9)):
        assert torch.equal(model(x), net(x))
    assert model(x[:0]).shape == net(x)[:0].shape


@pytest.mark.slow
@pytest.mark.parametrize("n_in", [1, 7, 8, 31, 32, 33, 63, 64, 65])
def test_a_linear_layer_with_thresholds_equals_the_trained_one_exactly(n_in):
    torch.manual_seed(n_in)
    layer = nn.Linear(n_in, 5, bias=False)
    net = nn.Sequential(with_thresholds(layer, torch.randint(-2, 3, (n_in,)).float()))
    model = packed(net, (2, 3, n_in))
    for n_images in (1, 3, 0):
        x = torch.randint(-3, 4, (n_images, 2, 3, n_in)).float()
        assert torch.equal(model(x), net(x))


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(9, 5, 4), (65, 1, 1), (1, 7, 3)], ids=str)
def test_rprelu_equals_the_trained_one_exactly(shape):
    torch.manual_seed(0)
    act = RPReLU(shape[0], 0.25)
    for parameter in act.parameters():
        nn.init.normal_(parameter)
    with torch.no_grad():
        act.weight[0] = -0.0
    net = nn.Sequential(act, nn.Flatten())
    x = torch.randn(3, *shape)
    x[0] = act.in_offset.detach().view(-1, 1, 1)  # the corner
    x[1, 0, 0, 0], x[2, 0, 0, 0] = float("inf"), -0.0
    assert torch.equal(packed(net, shape)(x), net(x))


@pytest.mark.slow
@pytest.mark.parametrize("binarizer", ["libra-median", "libra-latent-median"])
@pytest.mark.parametrize("bits", ["1w1a", "1w32a"])
def test_balanced_by_the_median_a_layer_equals_the_trained_one_exactly(binarizer, bits):
    layer = conv(9, 4, 3, padding=1)
    net = nn.Sequential(binarized(layer, Method(binarizer, binary_activations=bits == "1w1a")))
    x = torch.randint(-3, 4, (3, 9, 7, 9)).float()
    assert torch.equal(packed(net, (9, 7, 9))(x), net(x))


@pytest.mark.slow
@pytest.mark.parametrize("binarizer", ["libra", "plain"])
@pytest.mark.parametrize("bits", ["1w1a", "1w32a"])
@pytest.mark.parametrize(
    "layer", [nn.Conv2d(5, 6, 3, padding=1), nn.Linear(9, 6)], ids=["conv", "linear"]
)
def test_scale_and_bias_are_equal_within_rounding(binarizer, bits, layer):
    net = nn.Sequential(binarized(layer, Method(binarizer, binary_activations=bits == "1w1a")))
    x = torch.randn(2, 5, 7, 9)
    assert torch.allclose(packed(net, (5, 7, 9))(x), net(x), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_special_values_have_the_sign_of_training():
    net = nn.Sequential(binarized(nn.Linear(6, 4, bias=False)))
    x = torch.tensor([0.0, -0.0, float("nan"), float("inf"), float("-inf"), -1e-45]).view(
        1, 1, 1, 6
    )
    assert torch.equal(packed(net, (1, 1, 6))(x), net(x))
    moved = with_thresholds(net[0], torch.tensor([0.0, -0.0, 1.0, 2.0, -2.0, -1e-45]))
    assert torch.equal(packed(nn.Sequential(moved), (1, 1, 6))(x), moved(x))


class Residual(nn.Module):
    def __init__(self, method=None):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.norm0 = nn.Conv2d(3, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12)
        self.conv1 = binarized(nn.Conv2d(12, 12, 3, padding=1, bias=False), method)
        self.norm1 = nn.BatchNorm2d(12)
        self.conv2 = binarized(nn.Conv2d(12, 12, 3, padding=1, bias=False, groups=2), method)
        self.norm2, self.fc = nn.BatchNorm2d(12), nn.Linear(12, 7)
        for norm in (self.norm0, self.norm1, self.norm2):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 20)

    def forward(self, x):
        x = F.hardtanh(self.norm0(self.stem(x)))
        y = F.hardtanh(self.norm1(self.conv1(x)) + x)
        y = F.hardtanh(self.norm2(self.conv2(y)) + y)
        return self.fc(y.mean((2, 3)))


@pytest.fixture(scope="module")
def artifact():
    return artifact_of(Residual().eval(), (3, 8, 8))


@pytest.fixture(scope="module")
def residual(artifact):
    return Residual().eval(), PackedModel(artifact)


class TestWholeNetwork:
    @pytest.mark.slow
    def test_equals_the_trained_one_within_rounding(self, residual):
        net, model = residual
        x = torch.randn(5, 3, 8, 8)
        assert torch.allclose(model(x), net(x), rtol=1e-4, atol=1e-5)

    def test_given_the_same_bits_every_integer_is_the_trained_layers(self, residual):
        """On the packed network's own inputs of each layer, recorded."""
        net, model = residual
        inputs, sums = {}, {}

        def record(node, value):
            inputs[node.name] = value
            if node.op == "bconv2d":
                sums[node.name] = value

        model.run(torch.randn(4, 3, 8, 8), record)
        assert set(model.layer_nodes) == {"conv1", "conv2"} == set(binary_layers(net))
        for name, ((pack, total),) in model.layer_nodes.items():
            x = inputs[pack.args[0].name]
            assert torch.equal(sums[total.name], net.get_submodule(name)(x))

    def test_one_image_alone_equals_the_same_in_a_batch(self, residual):
        _, model = residual
        x = torch.randn(4, 3, 8, 8)
        alone = torch.cat([model(one[None]) for one in x])
        assert torch.allclose(model(x), alone, rtol=1e-5, atol=1e-6)

    def test_empty_batch(self, residual):
        assert residual[1](torch.empty(0, 3, 8, 8)).shape == (0, 7)

    def test_several_threads_get_their_own_answers(self, residual):
        _, model = residual
        batches = [torch.randn(2, 3, 8, 8) for _ in range(4)]
        wanted, found = [model(x) for x in batches], [None] * 4

        def work(i):
            found[i] = model(batches[i])

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(torch.equal(a, b) for a, b in zip(wanted, found, strict=True))

    def test_any_floating_type_and_autocast_give_float32(self, residual):
        _, model = residual
        x = torch.randn(2, 3, 8, 8).half().double()
        with torch.autocast("cpu", torch.bfloat16):
            y = model(x)
        assert y.dtype == torch.float32
        assert torch.equal(y, model(x.half()))

    def test_its_input_is_left_alone_and_no_graph_is_kept(self, residual):
        _, model = residual
        x = torch.randn(1, 3, 8, 8, requires_grad=True)
        before = x.detach().clone()
        assert not model(x).requires_grad
        assert torch.equal(x.detach(), before)
        assert not list(model.parameters())

    @pytest.mark.parametrize("shape", [(1, 3, 8, 9), (3, 8, 8), (1, 4, 8, 8)], ids=str)
    def test_other_image_sizes_are_refused(self, residual, shape):
        with pytest.raises(UsageError, match=r"expected images of shape \(N, 3, 8, 8\), got"):
            residual[1](torch.zeros(shape))

    @pytest.mark.parametrize(
        ("images", "words"),
        [
            ([torch.zeros(1, 3, 8, 8)], "a list"),
            (None, "a NoneType"),
            (torch.zeros(1, 3, 8, 8, device="meta"), "one on the device `meta`"),
            (torch.zeros(1, 3, 8, 8).to_sparse(), "one laid out as torch.sparse_coo"),
        ],
        ids=["list", "None", "meta", "sparse"],
    )
    def test_what_is_no_tensor_of_images_is_refused(self, residual, images, words):
        with pytest.raises(UsageError, match=rf"^expected a tensor .*, got {words}$"):
            residual[1](images)

    def test_arithmetic_that_there_is_not_is_refused(self, artifact):
        words = r"^`float_math`: expected one of `float32`, `bfloat16`, got `float16`$"
        with pytest.raises(UsageError, match=words):
            PackedModel(artifact, float_math="float16")


def test_what_depends_on_constants_is_computed_once():
    net = nn.Sequential(binarized(nn.Conv2d(3, 4, 3), Method("plain", binary_activations=False)))
    model, seen = packed(net, (3, 5, 5)), []
    model.run(torch.randn(1, 3, 5, 5), lambda node, _: seen.append(node.op))
    assert seen == ["aten.conv2d.default"]
    assert model.program.nodes[0].op == "bitunpack"


@pytest.mark.skipif(not native.is_fast_at_floats(), reason="torch computes floats here")
@pytest.mark.parametrize(
    ("settings", "n_signs"),
    [({}, 1), ({"groups": 2}, 0), ({"dilation": (1, 2)}, 0), ({"dilation": (2, 1)}, 1)],
    ids=["usual", "groups", "wide", "high"],
)
def test_signs_for_floats_are_looked_up_where_tables_can_be_made(settings, n_signs):
    layer = conv(8, 16, 3, padding=1, **settings)
    net = nn.Sequential(binarized(layer, Method(binary_activations=False)))
    model = packed(net, (8, 7, 9))
    assert [model.has_signs_for_floats(item) for item in model.items].count(True) == n_signs
    x = torch.randn(3, 8, 7, 9)
    torch.testing.assert_close(model(x), net(x).detach(), rtol=1e-5, atol=1e-5)
    if native.has_bfloat16():
        narrow = model.with_float_math("bfloat16")
        assert not any(narrow.has_signs_for_floats(item) for item in narrow.items)


@pytest.mark.slow
def test_a_value_read_late_or_twice_is_not_dropped_early():
    class Late(nn.Module):
        def forward(self, x):
            a = x + 1
            b = a * a
            return b.split(2, 1)[1] + a[:, :2] + x[:, 1:3]

    x = torch.randn(2, 4, 3, 3)
    assert torch.equal(packed(Late(), (4, 3, 3))(x), Late()(x))


def test_a_node_that_fails_is_named():
    x, y = TensorType("float32", ("N", 4)), TensorType("float32", ("N", 9))
    node = Node("y", "aten.reshape.default", (Ref("x"), (-1, 9)), {}, y)
    model = PackedModel(Artifact("", MANIFEST, Program({"x": x}, {}, (node,), ("y",)), {}))
    with pytest.raises(ArtifactError, match=r"node `y` \(aten\.reshape\.default\) fails: "):
        model(torch.zeros(1, 4))


def test_recorded_bits_are_the_reference_packing_of_the_recorded_float(residual):
    values = {}
    residual[1].run(torch.randn(2, 3, 8, 8), lambda node, value: values.update({node.name: value}))
    ((pack, _),) = residual[1].layer_nodes["conv2"]
    bits = reference.bitpack(values[pack.args[0].name].numpy(), 1, 2)
    assert np.array_equal(bits, values[pack.name].numpy())


class TestMemory:
    @pytest.mark.parametrize("n", [2, 30])
    def test_results_are_the_callers(self, artifact, n, monkeypatch):
        monkeypatch.setattr("irbin.runtime.given.CHUNK_BYTES", 40_000)
        model, xs = PackedModel(artifact), torch.randn(2, n, 3, 8, 8)
        first = model(xs[0])
        wanted = first.clone()
        second = model(xs[1])
        assert torch.equal(first, wanted)
        second.zero_()
        first.add_(1)
        assert torch.equal(model(xs[0]), wanted)

    def test_a_constant_that_is_returned_stays_what_it_is(self):
        class Constant(nn.Module):
            def __init__(self):
                super().__init__()
                self.constant = nn.Parameter(torch.randn(1, 4))

            def forward(self, x):
                return self.constant.expand(x.shape[0], -1)

        model = packed(Constant(), (3, 4, 4))
        x = torch.zeros(1, 3, 4, 4)
        wanted = model(x).clone()
        model(x).add_(1)
        assert torch.equal(model(x), wanted)

    def test_plans_are_kept_for_the_latest_few_sizes(self, artifact, monkeypatch):
        made = []

        def plan(work, n, **settings):
            made.append(n)
            return runtime_schedule.Schedule(work, n, **settings)

        monkeypatch.setattr(runtime_parts, "Schedule", plan)
        monkeypatch.setattr(runtime_engine, "kernel_threads", lambda: 1)  # several make parts
        model = PackedModel(artifact)
        sizes = [*range(1, PLANNED_SIZES + 2)]
        for n in sizes:
            model(torch.zeros(n, 3, 8, 8))
        assert made == sizes
        for n in sizes[::-1][:-1] + sizes[1:]:
            model(torch.zeros(n, 3, 8, 8))
        assert made == sizes
        model(torch.zeros(1, 3, 8, 8))  # the first has been given up, now the second is
        model(torch.zeros(3, 3, 8, 8))
        assert made == [*sizes, 1]
        model(torch.zeros(2, 3, 8, 8))
        assert made == [*sizes, 1, 2]


class Product(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(12, 9), nn.Linear(9, 7)
        self.conv = binarized(nn.Conv2d(3, 12, 3))

    def forward(self, x):
        return self.conv(x).mean((2, 3)) @ (self.a.weight.mT @ self.b.weight.mT)


@pytest.fixture(scope="module")
def product():
    return artifact_of(Product(), (3, 8, 8))


class TestCallers:
    def test_threads_with_batches_of_many_sizes_get_their_own_answers(self, artifact):
        """More sizes than plans are kept for, so that some are made while others run."""
        model = PackedModel(artifact)
        batches = [torch.randn(n, 3, 8, 8) for n in (1, 2, 3, 5, 8, 13, 2, 1)]
        wanted = [PackedModel(artifact)(x) for x in batches]
        right = [0] * len(batches)
        start = threading.Barrier(len(batches))

        def work(i):
            start.wait()
            for _ in range(5):
                right[i] += torch.equal(model(batches[i]), wanted[i])

        threads = [threading.Thread(target=work, args=(i,)) for i in range(len(batches))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert right == [5] * len(batches)

    @pytest.mark.parametrize("is_used", [False, True], ids=["new", "used"])
    @pytest.mark.parametrize(
        "copied",
        [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))],
        ids=["deepcopy", "pickle"],
    )
    def test_a_copy_gives_the_same_answers(self, artifact, copied, is_used):
        x = torch.randn(3, 3, 8, 8)
        model = PackedModel(replace(artifact, path="a folder"), ("transform", "pack"))
        if is_used:
            model(x)
        other = copied(model)
        assert torch.equal(other(x), model(x))
        assert other.items == model.items
        assert other.program == model.program
        assert (other.path, other.manifest) == (model.path, model.manifest)

    @pytest.mark.parametrize(
        "change",
        [
            lambda x: x.contiguous(memory_format=torch.channels_last),
            lambda x: torch.stack((x, x), -1)[..., 0],
            lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
            lambda x: torch.cat((x, x), 1)[:, :3],
            lambda x: x.double(),
            lambda x: x.bfloat16(),
            lambda x: x.half(),
            lambda x: x.double().contiguous(memory_format=torch.channels_last),
            lambda x: x[:1].expand(3, -1, -1, -1),
            lambda x: torch.complex(x, x).conj().imag,
        ],
        ids=[
            "channels-last",
            "strided",
            "turned",
            "part",
            "float64",
            "bfloat16",
            "float16",
            "float64 channels-last",
            "expanded",
            "negative bit",
        ],
    )
    def test_images_give_what_their_contiguous_float32_copies_give(self, artifact, change):
        for float_convs in (True, False):
            model = PackedModel(artifact, float_convs=float_convs)
            x = change(torch.randn(3, 3, 8, 8))
            assert torch.equal(model(x), model(x.float().contiguous()))

    @pytest.mark.slow
    @pytest.mark.parametrize("is_made_there", [True, False])
    @pytest.mark.parametrize(
        "mode",
        [torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)],
        ids=["inference mode", "autocast"],
    )
    def test_modes_do_not_matter(self, product, mode, is_made_there):
        """Constants are multiplied when the model is made."""
        x = torch.randn(2, 3, 8, 8)
        wanted = PackedModel(product)(x)
        with mode() if is_made_there else nullcontext():
            model = PackedModel(product)
        with mode():
            there = [model(x), model(x)]
        found = [*there, model(x)]
        assert all(torch.equal(one, wanted) for one in found)
        assert not found[-1].is_inference()
        found[-1].requires_grad_().sum().backward()


def test_passes_that_can_be_read_once_are_made(artifact):
    wanted = PackedModel(artifact, FUSIONS)
    assert PackedModel(artifact, (name for name in FUSIONS)).items == wanted.items


@pytest.mark.parametrize("n", [0, -1, "2", 1.0, True])
def test_there_is_at_least_one_thread(n):
    before = torch.get_num_threads()
    with pytest.raises(UsageError, match=rf"^`n`: expected at least 1 thread, got {n!r}$"):
        set_num_threads(n)
    assert torch.get_num_threads() == before


def test_openmp_is_not_asked_for_more_threads_than_it_survives():
    before = torch.get_num_threads()
    with pytest.raises(UsageError, match=r"^`n`: expected at most 4096 threads, got 1000000$"):
        set_num_threads(1_000_000)
    assert torch.get_num_threads() == before


def test_threads_are_torchs():
    try:
        set_num_threads(2)
        assert torch.get_num_threads() == 2
    finally:
        set_num_threads(1)
    assert torch.get_num_threads() == 1


class TestWatch:
    @pytest.mark.parametrize(("n", "n_parts"), [(0, 1), (2, 1), (9, 1), (10, 2), (19, 3)])
    def test_tells_of_every_item_once_a_part(self, artifact, monkeypatch, n, n_parts):
        monkeypatch.setattr("irbin.runtime.given.CHUNK_BYTES", 9 * 4 * 12 * 8 * 8)
        model, told = PackedModel(artifact), []
        x = torch.randn(n, 3, 8, 8)
        y = model.watch(
            x, lambda item, values, _: told.append((item, len(values[item_name(item)])))
        )
        assert [item for item, _ in told] == [*model.items] * n_parts
        parts = [part for _, part in told[:: len(model.items)]]
        assert sum(parts) == n
        assert max(parts) <= 9
        assert torch.equal(y, model(x))

    @pytest.mark.slow
    def test_a_batch_that_gives_no_result_an_image_is_one_part(self, monkeypatch):
        class Mixed(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv = binarized(nn.Conv2d(3, 4, 3))

            def forward(self, x):
                return self.conv(x).sum(0)

        monkeypatch.setattr("irbin.runtime.given.CHUNK_BYTES", 1)
        # as in folders that were written before such networks were refused
        monkeypatch.setattr("irbin.program.translate.check_images_apart", lambda *_: None)
        net = Mixed()
        model, told = packed(net, (3, 5, 5)), []
        x = torch.randn(9, 3, 5, 5)
        y = model.watch(x, lambda item, *_: told.append(item))
        assert told == [*model.items]
        assert torch.allclose(y, net(x), atol=1e-5)


def item_name(item) -> str:
    return results(item)[0]


class TestConstants:
    @pytest.mark.slow
    @pytest.mark.parametrize("kind", ["linear", "conv"])
    def test_a_binary_layer_of_a_constant_is_computed_once(self, kind):
        class Table(nn.Module):
            """As swin v2's position biases."""

            def __init__(self):
                super().__init__()
                torch.manual_seed(0)
                layer = nn.Linear(5, 7) if kind == "linear" else nn.Conv2d(5, 7, 3)
                shape = (3, 5) if kind == "linear" else (2, 5, 4, 4)
                self.layer, self.table = binarized(layer), nn.Parameter(torch.randn(shape))

            def forward(self, x):
                return x[:, 0, :7, :7] * self.layer(self.table).flatten(1)[0, :7]

        net = Table()
        model = packed(net, (3, 8, 8))
        x = torch.randn(2, 3, 8, 8)
        assert torch.allclose(model(x), net(x), atol=1e-6)
        run = {item.kind for item in model.items if isinstance(item, Fused)}
        assert run <= {"walk"}  # the product with the images, and no layer

    def test_what_is_computed_of_constants_is_what_the_file_declares(self):
        """A kernel takes its weight's size from there."""
        x = TensorType("float32", ("N", 2, 4, 4))
        w = TensorType("float32", (2, 2, 3, 3))
        declared = TensorType("float32", (2, 2, 2, 3))
        nodes = (
            Node("r", "aten.relu.default", (Ref("w"),), {}, declared),
            Node(
                "y",
                "aten.conv2d.default",
                (Ref("x"), Ref("r")),
                {},
                TensorType("float32", ("N", 2, 3, 2)),
            ),
        )
        program = Program({"x": x}, {"w": w}, nodes, ("y",))
        message = (
            r"^node `r` \(aten\.relu\.default\) fails: it gives float32\[2,2,3,3\], but "
            r"float32\[2,2,2,3\] is declared$"
        )
        with pytest.raises(ArtifactError, match=message):
            PackedModel(Artifact("", MANIFEST, program, {"w": torch.zeros(2, 2, 3, 3)}))
