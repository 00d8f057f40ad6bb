"""Networks fed with bytes: as their definition in every implementation, whatever the batch."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from irbin.artifact.read import Artifact
from irbin.artifact.schema import Manifest
from irbin.binary.anneal import EdePhase
from irbin.binary.layers import BinaryConv2d, Method
from irbin.data.batches import Images
from irbin.data.order import Feed
from irbin.data.streamed import StreamedLoader
from irbin.errors import UsageError
from irbin.kernels import byte_reference, native, reference
from irbin.kernels.steps import Step
from irbin.program.fuse import FUSIONS
from irbin.program.lower import lower
from irbin.records.options import DataOptions, Preprocessing, SourceRecord
from irbin.records.plan import Plan, PlanOptions
from irbin.runtime.model import PackedModel
from irbin.runtime.pixels import normalization_of, normalized
from irbin.runtime.threads import set_num_threads

IMPLEMENTATIONS = [one.name for one in native.implementations() if one.supported]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def artifact_of(net: nn.Module, size, mean=MEAN, std=STD) -> Artifact:
    lowered = lower(net.eval(), size)
    source = SourceRecord("s", "timm:s", 2, Preprocessing(size, mean, std))
    plan = Plan(PlanOptions(), (), size, 0, 0, 0)
    return Artifact("", Manifest("0", "float32", source, plan), lowered.program, lowered.tensors)


def drawn(n, size, seed=0):
    channels, height, width = size
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (n, height, width, channels), dtype=np.uint8)


def as_loaders(pixels, mean=MEAN, std=STD):
    """float32 (batch, channels, height, width), as `Loader.normalize` makes it."""
    (size,) = {pixels.shape[1:]}
    preprocessing = Preprocessing((size[2], *size[:2]), mean, std)
    dataset = Images([0], None, preprocessing, 0, "here")
    loader = StreamedLoader(dataset, DataOptions(workers=0), Feed())
    return loader.normalize(torch.from_numpy(pixels).permute(0, 3, 1, 2))


def random_norm(n):
    norm = nn.BatchNorm2d(n)
    with torch.no_grad():
        for values in (norm.weight, norm.bias, norm.running_mean):
            values.normal_()
        norm.running_var.uniform_(0.5, 20)
    return norm


class Stem(nn.Module):
    """A first layer alone."""

    def __init__(self, n_in=3, n_out=16, kernel=3, bias=True, **settings):
        super().__init__()
        torch.manual_seed(n_in)
        self.conv = nn.Conv2d(n_in, n_out, kernel, bias=bias, **settings)

    def forward(self, x):
        return F.hardtanh(self.conv(x))


class Small(nn.Module):
    """A stem that is pooled, binary layers with a residual, a classifier."""

    def __init__(self, n_in=3):
        super().__init__()
        torch.manual_seed(1)
        self.stem, self.norm = nn.Conv2d(n_in, 16, 5, 2, 2, bias=False), random_norm(16)
        conv = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.conv = BinaryConv2d.from_float(conv, Method(), EdePhase())
        self.norm1, self.fc = random_norm(16), nn.Linear(16, 7)

    def forward(self, x):
        x = F.max_pool2d(F.hardtanh(self.norm(self.stem(x))), 3, 2, 1)
        x = F.hardtanh(self.norm1(self.conv(x)) + x)
        return self.fc(x.mean((2, 3)))


class Twice(Small):
    """Two convolutions read the images, and their size is asked for."""

    def __init__(self):
        super().__init__()
        self.other = nn.Conv2d(3, 16, 5, 2, 2)

    def forward(self, x):
        n = x.shape[0]
        y = F.max_pool2d(F.hardtanh(self.norm(self.stem(x) + self.other(x))), 3, 2, 1)
        return self.fc((self.conv(y) + y).mean((2, 3)).reshape(n, -1))


class Gelu(Small):
    """What torch computes in between."""

    def forward(self, x):
        x = F.max_pool2d(F.gelu(self.norm(self.stem(x))), 3, 2, 1)
        return self.fc((self.conv(x) + x).mean((2, 3)))


NETWORKS = {"small": Small, "read twice": Twice, "torch between": Gelu}


def small(size=(3, 19, 21)):
    return artifact_of(Small(size[0]), size)


def defined(artifact, net, pixels):
    """What the page says of a convolution, its bias and a clamp."""
    weight = net.conv.weight.detach().permute(0, 2, 3, 1).contiguous().numpy()
    seen = artifact.manifest.source.preprocessing
    weight, constants, scale = byte_reference.fold(weight, seen.mean, seen.std)
    conv = net.conv
    border = (conv.padding[1], conv.padding[1], conv.padding[0], conv.padding[0])
    y = byte_reference.conv2d(pixels, weight, constants, conv.stride, border, conv.dilation)
    bias = net.conv.bias.detach().numpy()
    steps = (Step("multiply", scale), Step("add", bias), Step("clamp", low=-1.0, high=1.0))
    return reference.apply_steps(y, steps, ()).transpose(0, 3, 1, 2)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("n_in", [1, 3])
@pytest.mark.parametrize(
    "settings",
    [{"padding": 1}, {"padding": (3, 0), "stride": 2}, {"kernel": 1}, {"dilation": 2}],
    ids=["padded", "padded above", "1x1", "dilated"],
)
def test_the_first_layer_is_as_it_is_defined(implementation, n_in, settings):
    size, net = (n_in, 7, 9), Stem(n_in, **settings)
    artifact, pixels = artifact_of(net, size, MEAN[:n_in], STD[:n_in]), drawn(3, size)
    with native.using(implementation):
        model = PackedModel(artifact)
        assert model.why_floats == ""
        assert np.array_equal(model.bytes(pixels), defined(artifact, net, pixels))


@settings(max_examples=25)
@given(st.data())
def test_any_normalization_is_folded_as_defined_and_near_the_floats(data):
    n_in = data.draw(st.sampled_from([1, 3]))
    mean = data.draw(st.tuples(*[st.floats(-2, 3)] * n_in))
    std = data.draw(st.tuples(*[st.floats(0.01, 300)] * n_in))
    size, net = (n_in, 6, 5), STEMS[n_in]
    artifact = replace(ARTIFACTS[n_in], manifest=fed(ARTIFACTS[n_in].manifest, mean, std))
    model, pixels = PackedModel(artifact), drawn(2, size, data.draw(st.integers(0, 9)))
    found = model.bytes(pixels)
    assert np.array_equal(found, defined(artifact, net, pixels))
    wanted = model(as_loaders(pixels, mean, std)).numpy()
    most = float((255 + 255 * np.abs(mean)).max() / (255 * np.min(std)))
    assert np.abs(found - wanted).max() <= 2e-4 * max(1.0, most)


def fed(manifest, mean, std):
    seen = replace(manifest.source.preprocessing, mean=mean, std=std)
    return replace(manifest, source=replace(manifest.source, preprocessing=seen))


STEMS = {n: Stem(n, padding=2) for n in (1, 3)}
ARTIFACTS = {n: artifact_of(net, (n, 6, 5), MEAN[:n], STD[:n]) for n, net in STEMS.items()}


class StemBehindOneZeroPad(Stem):
    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        self.pad = nn.ZeroPad2d((0, 1, 2, 3))

    def forward(self, x):
        return super().forward(self.pad(x))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("settings", [{"padding": 0}, {"padding": (2, 1), "stride": 2}])
def test_zeros_in_front_of_the_first_layer_are_its_border(implementation, settings):
    net, size = StemBehindOneZeroPad(3, **settings), (3, 7, 9)
    artifact, pixels = artifact_of(net, size), drawn(2, size)
    with native.using(implementation):
        model = PackedModel(artifact)
        assert model.why_floats == ""
        found = model.bytes(pixels)
        wanted = model(as_loaders(pixels)).numpy()
    assert np.abs(found - wanted).max() < 1e-3
    weight = net.conv.weight.detach().permute(0, 2, 3, 1).contiguous().numpy()
    folded = byte_reference.fold(weight, MEAN, STD)
    down, right = net.conv.padding
    border = (right, right + 1, down + 2, down + 3)
    y = byte_reference.conv2d(pixels, folded.weight, folded.constants, net.conv.stride, border)
    bias = net.conv.bias.detach().numpy()
    steps = (Step("multiply", folded.scale), Step("add", bias), Step("clamp", low=-1.0, high=1.0))
    assert np.array_equal(found, reference.apply_steps(y, steps, ()).transpose(0, 3, 1, 2))


def test_a_padded_pixel_is_zero_after_normalization():
    """An image of the mean's color is zeros to the last pixel: no border can be seen."""
    net = Stem(3, 16, 3, padding=2)
    artifact = artifact_of(net, (3, 5, 5), mean=(100 / 255,) * 3, std=(0.2,) * 3)
    model = PackedModel(artifact)
    found = model.bytes(np.full((1, 5, 5, 3), 100, np.uint8))
    assert np.abs(found - net.conv.bias.detach().numpy()[:, None, None]).max() < 1e-4


@pytest.mark.slow
class TestWholeNetworks:
    @pytest.mark.parametrize("name", NETWORKS)
    def test_answers_are_near_those_of_normalized_floats(self, name):
        torch.manual_seed(2)
        net = NETWORKS[name]()
        model = PackedModel(artifact_of(net, (3, 19, 21)))
        assert model.why_floats == ""
        pixels = drawn(9, (3, 19, 21))
        found, wanted = model.bytes(pixels), model(as_loaders(pixels)).numpy()
        # a sign near zero may flip in an image, not in most
        assert np.median(np.abs(found - wanted).max(1)) < 1e-3
        assert not np.array_equal(found, wanted)

    @pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
    def test_every_implementation_gives_the_same_bits(self, implementation):
        artifact, pixels = small(), drawn(2, (3, 19, 21))
        made = []
        for name in (IMPLEMENTATIONS[0], implementation):
            with native.using(name):  # whose float layers are the same only where they are ours
                made.append(PackedModel(artifact, float_convs=True).bytes(pixels))
        assert np.array_equal(*made)

    @pytest.mark.parametrize("passes", [(), ("pool",), ("transform", "pack"), FUSIONS], ids=str)
    def test_every_pass_leaves_the_bits(self, passes):
        artifact, pixels = small(), drawn(3, (3, 19, 21))
        wanted = PackedModel(artifact).bytes(pixels)
        assert np.array_equal(PackedModel(artifact, passes).bytes(pixels), wanted)

    @pytest.mark.parametrize("n", [0, 1, 2, 9, 10, 23])
    def test_a_batch_is_its_images(self, n, monkeypatch):
        monkeypatch.setattr("irbin.runtime.given.CHUNK_BYTES", 9 * 4 * 16 * 5 * 6)
        model, pixels = PackedModel(small()), drawn(n, (3, 19, 21))
        found = model.bytes(pixels)
        assert found.shape == (n, 7)
        alone = [model.bytes(pixels[i : i + 1]) for i in range(n)]
        assert np.array_equal(found, np.concatenate([np.empty((0, 7), np.float32), *alone]))

    def test_threads_change_no_bit(self):
        size = (3, 64, 64)
        model, pixels = PackedModel(small(size)), drawn(5, size)
        wanted = model.bytes(pixels)
        set_num_threads(2)
        try:
            assert np.array_equal(model.bytes(pixels), wanted)
        finally:
            set_num_threads(1)

    def test_floats_and_bytes_may_take_turns(self):
        model, pixels = PackedModel(small()), drawn(2, (3, 19, 21))
        x = as_loaders(pixels)
        wanted = PackedModel(small()).bytes(pixels), PackedModel(small())(x)
        for _ in range(2):
            assert np.array_equal(model.bytes(pixels), wanted[0])
            assert torch.equal(model(x), wanted[1])

    def test_layers_behind_the_first_are_made_once(self):
        model = PackedModel(small())
        model.bytes(drawn(1, (3, 19, 21)))
        own, of_bytes = model._engine.work, model._engine._of_bytes[0]
        shared = [name for name in own.kernels if own.kernels[name] is of_bytes.kernels[name]]
        assert len(shared) == len(own.kernels) - 1

    @pytest.mark.parametrize("name", NETWORKS)
    def test_arrays_and_tensors_however_they_lie_give_the_same(self, name):
        model = PackedModel(artifact_of(NETWORKS[name](), (3, 19, 21)))
        pixels = drawn(3, (3, 19, 21))
        wanted = model.bytes(pixels)
        frozen = pixels.copy()
        frozen.flags.writeable = False
        planes = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
        for array in (frozen, pixels[::-1][::-1], planes.transpose(0, 2, 3, 1)):
            found = model.bytes(array)
            assert isinstance(found, np.ndarray)
            assert np.array_equal(found, wanted)
        for tensor in (torch.from_numpy(pixels), torch.from_numpy(planes).permute(0, 2, 3, 1)):
            found = model.bytes(tensor)
            assert isinstance(found, torch.Tensor)
            assert np.array_equal(found.numpy(), wanted)

    def test_images_of_one_pixel_are_bytes_too(self):
        """Where planes and rows are the same bytes in memory."""
        net = Stem(3, 16, 1)
        artifact, pixels = artifact_of(net, (3, 1, 1)), drawn(2, (3, 1, 1))
        assert np.array_equal(PackedModel(artifact).bytes(pixels), defined(artifact, net, pixels))


class Padded(Small):
    def forward(self, x):
        return super().forward(F.pad(x, (1, 1, 1, 1), mode="reflect"))


class Added(Small):
    """The images are a residual too."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        return super().forward(self.first(x) + x)


class Flat(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(3 * 19 * 21, 5)

    def forward(self, x):
        return self.fc(x.flatten(1))


class Grouped(Small):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 24, 3, padding=1, groups=3)
        self.stem = nn.Conv2d(24, 16, 5, 2, 2)

    def forward(self, x):
        return super().forward(self.first(x))


class PaddedByOnes(Small):
    def forward(self, x):
        return super().forward(F.pad(x, (1, 1, 1, 1), value=1.0))


class Cropped(Small):
    def forward(self, x):
        return super().forward(F.pad(x[:, :, 1:], (1, 0, 1, 0)))


class PaddingReadTwice(Small):
    def forward(self, x):
        x = F.pad(x, (1, 1, 1, 1))
        return super().forward(x) + x.mean((1, 2, 3))[:, None]


OTHERS = {
    "padded": Padded,
    "padded by ones": PaddedByOnes,
    "cropped": Cropped,
    "padding read twice": PaddingReadTwice,
    "added": Added,
    "flat": Flat,
    "grouped": Grouped,
}


class TestOtherReaders:
    @pytest.mark.parametrize("name", OTHERS)
    def test_images_are_normalized_as_loaders_do_where_others_read_them(self, name):
        model = PackedModel(artifact_of(OTHERS[name](), (3, 19, 21)))
        assert "reads them" in model.why_floats
        pixels = drawn(3, (3, 19, 21))
        assert torch.equal(model.bytes(torch.from_numpy(pixels)), model(as_loaders(pixels)))

    def test_images_that_are_given_back_are_normalized(self):
        class Both(Stem):
            def forward(self, x):
                return super().forward(x), x

        model = PackedModel(artifact_of(Both(), (3, 5, 5)))
        assert model.why_floats == "the network gives them back"
        pixels = drawn(2, (3, 5, 5))
        found = model.bytes(pixels)
        assert all(
            np.array_equal(one, other.numpy())
            for one, other in zip(found, model(as_loaders(pixels)), strict=True)
        )

    @pytest.mark.parametrize("std", [0.0, -1.0, float("nan"), 1e-300])
    def test_a_normalization_that_bytes_cannot_take_is_the_loaders(self, std):
        model = PackedModel(artifact_of(Stem(), (3, 5, 5), std=(0.2, std, 0.2)))
        assert "a normalization that bytes can take" in model.why_floats
        pixels = drawn(2, (3, 5, 5))
        wanted = model(as_loaders(pixels, MEAN, (0.2, std, 0.2))).numpy()
        assert np.array_equal(model.bytes(pixels), wanted, equal_nan=True)


@given(
    st.tuples(*[st.floats(-1e3, 1e3)] * 3),
    st.tuples(*[st.floats(1e-3, 1e3)] * 3),
)
def test_normalized_floats_are_the_loaders(mean, std):
    pixels = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    preprocessing = Preprocessing((3, 16, 16), mean, std)
    found = normalized(pixels, normalization_of(preprocessing, 3))
    assert np.array_equal(found, as_loaders(pixels, mean, std).numpy())


@pytest.mark.parametrize(("mean", "std"), [((0.5,), (0.25,)), ((0.5,), (0.25,) * 3)], ids=str)
def test_one_number_is_meant_for_all_channels(mean, std):
    pixels = drawn(2, (3, 5, 5))
    wanted = PackedModel(artifact_of(Stem(), (3, 5, 5), (0.5,) * 3, (0.25,) * 3)).bytes(pixels)
    found = PackedModel(artifact_of(Stem(), (3, 5, 5), mean, std)).bytes(pixels)
    assert np.array_equal(found, wanted)


def test_another_normalization_is_another_network():
    model, pixels = PackedModel(small()), drawn(2, (3, 19, 21))
    seen = model.manifest.source.preprocessing
    assert model.with_preprocessing(seen) is model
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    other = model.with_preprocessing(replace(seen, mean=mean, std=std))
    wanted = PackedModel(artifact_of(Small(), (3, 19, 21), mean, std)).bytes(pixels)
    assert np.array_equal(other.bytes(pixels), wanted)
    assert not np.array_equal(model.bytes(pixels), wanted)
    planes = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    assert np.array_equal(other.channels_first(planes).numpy(), wanted)


def test_a_normalization_of_other_channels_is_told():
    model = PackedModel(artifact_of(Stem(1), (1, 5, 5)))
    words = r"^the manifest's normalization is of 3 channels, images have 1; give `mean=`"
    with pytest.raises(UsageError, match=words):
        model.bytes(drawn(1, (1, 5, 5)))


SHAPE = r"`images`: expected bytes of shape \(N, 19, 21, 3\), got "


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((2, 19, 21, 3), np.float32), r"`images`: expected bytes \(uint8\), got float32"),
        (torch.zeros(2, 3, 19, 21), r"`images`: expected bytes \(uint8\), got float32; give the"),
        (np.zeros((2, 19, 21, 3), np.int8), r"`images`: expected bytes \(uint8\), got int8"),
        (np.zeros((2, 19, 21, 1), np.uint8), SHAPE + r"\(2, 19, 21, 1\)$"),
        (np.zeros((2, 21, 19, 3), np.uint8), SHAPE + r"\(2, 21, 19, 3\)$"),
        (np.zeros((2, 3, 19, 21), np.uint8), SHAPE + r".*; channels come last: give `images.perm"),
        (np.zeros((19, 21, 3), np.uint8), SHAPE + r"\(19, 21, 3\); give a batch: `images\[None\]`"),
        (np.zeros((), np.uint8), SHAPE + r"\(\)$"),
        ([np.zeros((19, 21, 3), np.uint8)], r"`images`: expected bytes, a NumPy .* got list$"),
        (b"bytes", r"`images`: expected bytes, a NumPy array or a tensor of uint8, got bytes$"),
        (torch.zeros(1, 19, 21, 3, dtype=torch.uint8, device="meta"), "on the device `meta`$"),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(getattr(value, "shape", value))[:20],
)
def test_what_are_no_bytes_is_told(images, words):
    with pytest.raises(UsageError, match=words):
        SMALL.bytes(images)


SMALL = PackedModel(small())


def test_a_network_of_other_than_images_is_told():
    model = PackedModel(artifact_of(nn.Linear(6, 2), (6,)))
    with pytest.raises(UsageError, match=r"^expected a network of images to give bytes to, got"):
        model.bytes(np.zeros((1, 6), np.uint8))


def test_bytes_for_the_network_itself_are_told_where_to_go():
    words = r"got uint8; bytes \(uint8, channels last\) are for `model.bytes\(images\)`"
    with pytest.raises(UsageError, match=words):
        SMALL(torch.zeros(1, 3, 19, 21, dtype=torch.uint8))
