"""Networks without a classifier, from their name to the packed network that runs."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import irbin
from irbin import DataOptions, SourceOptions
from irbin.artifact.read import Artifact
from irbin.artifact.schema import Manifest
from irbin.cli.app import main
from irbin.errors import SourceError, UsageError
from irbin.evaluation.agreement import compare
from irbin.kernels import native
from irbin.program.fuse import FUSIONS
from irbin.program.lower import lower
from irbin.rewriting.network import Network
from irbin.runtime.model import PackedModel
from irbin.sources.by_name import reopen

SMALL = (3, 64, 64)
FEATURES = {"features_only": True}
BACKBONES = {
    "resnet": ("test_resnet", FEATURES, None, SMALL),
    "convnext": ("test_convnext", {**FEATURES, "out_indices": (1, 2, 3)}, None, SMALL),
    "resnet-d": ("resnet10t", {**FEATURES, "out_indices": (1, 4)}, None, SMALL),
    "mobilenet": ("mobilenetv3_small_050", FEATURES, None, SMALL),
    "vit": ("test_vit", FEATURES, None, None),
    "one map": ("test_resnet", {**FEATURES, "out_indices": (2,)}, None, SMALL),
    "dictionary": ("test_resnet", {**FEATURES, "feature_cls": "dict"}, None, SMALL),
    "pooled resnet": ("test_resnet", {}, 0, SMALL),
    "pooled convnext": ("test_convnext", {}, 0, SMALL),
    "pooled mobilenet": ("mobilenetv3_small_050", {}, 0, SMALL),
    "pooled vit": ("test_vit", {}, 0, None),
}
SUBSETS = [FUSIONS, FUSIONS[1:3], FUSIONS[:1]]
"""`runtime/test_fusions.py` has them all."""


def options_of(name: str) -> tuple[str, SourceOptions]:
    spec, kwargs, num_classes, size = BACKBONES[name]
    options = SourceOptions(
        pretrained=False, model_kwargs=kwargs, num_classes=num_classes, input_size=size
    )
    return spec, options


@cache
def converted(name: str) -> Network:
    torch.manual_seed(0)
    spec, options = options_of(name)
    return irbin.convert(spec, source_options=options)


@cache
def artifact(name: str) -> Artifact:
    return artifact_of(converted(name))


def artifact_of(network: Network) -> Artifact:
    assert network.plan is not None
    lowered = lower(network.module, network.source.preprocessing.input_size)
    manifest = Manifest("0", "float32", network.source, network.plan)
    return Artifact("", manifest, lowered.program, lowered.tensors)


def images(name: str, n: int) -> Tensor:
    size = converted(name).source.preprocessing.input_size
    return torch.randn(n, *size, generator=torch.Generator().manual_seed(n))


def equal(one: object, other: object) -> bool:
    left, right = tree_leaves(one), tree_leaves(other)
    return len(left) == len(right) and all(map(torch.equal, left, right))


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKBONES)
def test_fused_unfused_and_reference_give_the_same_features(name: str) -> None:
    x = images(name, 3)
    plain = PackedModel(artifact(name), (), float_convs=True)
    wanted = plain(x)
    for passes in SUBSETS:
        model = PackedModel(artifact(name), passes, float_convs=True)
        for _ in range(2):  # results apart, then in shared memory
            assert equal(model(x), wanted), passes
            assert equal(model(x[:1]), plain(x[:1])), passes
    if name not in ("one map", "pooled vit"):
        return  # the definition is slow
    with native.using(native.REFERENCE):
        assert equal(PackedModel(artifact(name), float_convs=True)(x[:1]), plain(x[:1]))


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKBONES)
def test_the_packed_features_are_the_trained_ones(name: str) -> None:
    network = converted(name)
    agreement = compare(network.module, PackedModel(artifact(name)), [images(name, 3)])
    assert agreement.equal_top1 is None
    assert agreement.disagreements == ()
    assert agreement.max_difference < 1e-4
    assert sum(layer.n_flipped for layer in agreement.layers) == 0
    found = PackedModel(artifact(name))(images(name, 2))
    wanted = tree_leaves(network.module.eval()(images(name, 2)))
    assert isinstance(found, Tensor if len(wanted) == 1 else list)
    assert [y.shape for y in tree_leaves(found)] == [y.shape for y in wanted]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["convnext", "vit", "one map", "pooled resnet"])
def test_a_folder_holds_a_backbone(name: str, tmp_path: Path) -> None:
    spec, options = options_of(name)
    network = irbin.convert(spec, tmp_path / "converted", source_options=options)
    again = irbin.open_network(
        tmp_path / "converted", options
    )  # the same options contradict nothing
    assert again.source == network.source
    assert again.source.num_classes == 0
    x = torch.randn(2, *network.source.preprocessing.input_size)
    assert equal(again.module.eval()(x), network.module.eval()(x))
    assert type(reopen(again.source).module) is type(
        timm.create_model(spec, **options.model_kwargs)
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet", "vit", "pooled convnext"])
def test_gradients_reach_every_binary_layer_of_a_backbone(name: str) -> None:
    network = converted(name)
    outputs = tree_leaves(network.module.train()(images(name, 4)))
    torch.stack([(y * torch.randn_like(y)).mean() for y in outputs]).sum().backward()
    assert network.plan is not None
    for layer in network.plan.binary_names:
        assert network.module.get_submodule(layer).weight.grad is not None, layer
    network.module.zero_grad()


@pytest.mark.slow
def test_a_backbone_is_planned_as_the_body_of_its_classifier() -> None:
    size = SourceOptions(pretrained=False, input_size=SMALL)
    whole = irbin.plan("test_resnet", source_options=size)
    pooled, maps = (converted(name).plan for name in ("pooled resnet", "resnet"))
    assert pooled is not None
    assert maps is not None
    assert pooled.binary_names == maps.binary_names == whole.binary_names
    assert [d.reason for d in whole.decisions if d.layer.name == "fc"] == ["last layer"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet", "convnext", "mobilenet", "vit"])
def test_a_checkpoint_of_the_whole_network_fills_a_backbone(name: str, tmp_path: Path) -> None:
    spec, options = options_of(name)
    whole = timm.create_model(spec, num_classes=7).eval()
    torch.save(whole.state_dict(), tmp_path / "whole.pth")
    given = SourceOptions(
        model=spec, model_kwargs=options.model_kwargs, input_size=options.input_size
    )
    network = irbin.open_network(tmp_path / "whole.pth", given)
    assert network.source.trained
    x = torch.randn(1, *network.source.preprocessing.input_size)
    theirs = whole.forward_intermediates(x, intermediates_only=True)
    for feature in network.module.eval()(x):
        assert any(
            y.shape == feature.shape and torch.allclose(y, feature, atol=1e-5) for y in theirs
        )
    assert equal(reopen(network.source).module.eval()(x), network.module(x))


def test_a_checkpoint_of_another_network_does_not(tmp_path: Path) -> None:
    torch.save(timm.create_model("test_convnext").state_dict(), tmp_path / "other.pth")
    given = SourceOptions(model="test_resnet", model_kwargs=FEATURES)
    with pytest.raises(SourceError, match=r"other.pth` .*"):
        irbin.open_network(tmp_path / "other.pth", given)


def test_what_makes_no_backbone_is_told() -> None:
    message = (
        "`num_classes`: `test_resnet` with `features_only` has no classifier; expected nothing"
    )
    with pytest.raises(UsageError, match=message):
        irbin.open_network(
            "test_resnet", SourceOptions(pretrained=False, num_classes=3, model_kwargs=FEATURES)
        )
    with pytest.raises(SourceError, match=r"`xception41` with `features_only`: .* by hooks"):
        irbin.open_network("xception41", SourceOptions(pretrained=False, model_kwargs=FEATURES))


class TestWithoutAClassifier:
    @pytest.mark.slow
    def test_accuracy_and_labels_are_refused(self, pictures28: Path, tmp_path: Path) -> None:
        data = DataOptions(data_dir=str(pictures28), workers=0)
        network, packed = converted("resnet"), PackedModel(artifact("resnet"))
        why = "it has no classifier, only features; attach a head and do it in a loop of your own"
        for source in (network, packed):
            with pytest.raises(UsageError, match=f"cannot evaluate `test_resnet`: {why}"):
                irbin.evaluate(source, data=data)
        with pytest.raises(UsageError, match=f"cannot fine-tune `test_resnet`: {why}"):
            irbin.finetune(network, tmp_path / "run", data=data)

    @pytest.mark.slow
    def test_images_are_enough_to_calibrate_and_compare(self, pictures28: Path) -> None:
        data = DataOptions(data_dir=str(pictures28), batch_size=6, workers=0)
        spec, options = options_of("resnet")
        network = irbin.convert(spec, source_options=options, data=data, calibrate=12)
        agreement = irbin.compare(network, PackedModel(artifact_of(network)), data=data)
        assert (agreement.n_images, agreement.equal_top1) == (18, None)
        assert agreement.max_difference < 1e-3

    @pytest.mark.slow
    def test_benchmarks_run(self) -> None:
        record = irbin.benchmark(PackedModel(artifact("resnet")), n_runs=1, memory=False)
        assert [entry.name for entry in record.entries] == ["packed", "torch fp32"]


@pytest.mark.slow
def test_the_command_line_goes_the_whole_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    named = ["test_resnet", "--no-pretrained", "--input-size", "3", "64", "64"]
    named += ["--model-kwargs", "features_only=True", "--model-kwargs", "out_indices=(1,2,3)"]
    for line in (
        ["inspect", *named],
        ["convert", *named, "-o", "converted"],
        ["inspect", "converted"],
        ["export", "converted", "-o", "packed"],
        ["inspect", "packed"],
    ):
        assert main(line) == 0, capsys.readouterr().err
    assert len([x for x in capsys.readouterr().out.splitlines() if x.startswith("output ")]) == 3
    found = irbin.load("packed")(torch.zeros(2, *SMALL))
    assert [tuple(y.shape) for y in found] == [(2, 32, 16, 16), (2, 48, 8, 8), (2, 192, 4, 4)]


class Returns(nn.Module):
    """A user's own network that returns what it is told."""

    def __init__(self, what: str):
        super().__init__()
        self.what = what
        self.stem, self.conv = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, padding=1)
        self.norm, self.last = nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        early = self.stem(x)
        late = self.last(torch.relu(self.norm(self.conv(torch.relu(early)))))
        results = {
            "map": late,
            "list": [early, late],
            "tuple": (early, late),
            "one": [late],
            "dictionary": {"out": late, "aux": early},
            "nested": (late, {"all": [early, late]}),
            "logits": late.mean((2, 3)),
            "vector": late.mean((1, 2, 3)),
            "number": 3.0,
            "nothing": [],
            "mixed": [late, None],
        }
        return results[self.what]


class TestModulesOfOnesOwn:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("what", "n_outputs"),
        [("map", 1), ("list", 2), ("tuple", 2), ("one", 1), ("dictionary", 2), ("nested", 3)],
    )
    @pytest.mark.parametrize("shortcut", ["none", "bireal"])
    def test_whatever_holds_tensors_is_a_backbone(self, what, n_outputs, shortcut) -> None:
        torch.manual_seed(0)
        options = SourceOptions(input_size=(3, 16, 16))
        network = irbin.convert(Returns(what), source_options=options, shortcut=shortcut)
        assert network.source.num_classes == 0
        assert network.plan is not None
        assert network.plan.binary_names == ("conv",)  # `last` gives the answers
        x = torch.randn(3, 3, 16, 16)
        wanted = tree_leaves(network.module.eval()(x))
        found = PackedModel(artifact_of(network))(x)
        assert isinstance(found, list) == (n_outputs > 1)
        pairs = zip(tree_leaves(found), wanted, strict=True)
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in pairs)

    @pytest.mark.parametrize(
        ("what", "got"),
        [
            ("vector", r"but `output` is a tensor of shape \(2,\)"),
            ("number", "but `output` is a float; return tensors alone"),
            ("nothing", "got an empty list"),
            ("mixed", r"but `output\[1\]` is None; return tensors alone"),
        ],
    )
    def test_anything_else_is_refused(self, what, got) -> None:
        message = (
            r"^`Returns`: expected logits of shape \(batch, num_classes\), a feature map, or a "
            f"list of these, {got}$"
        )
        with pytest.raises(SourceError, match=message):
            irbin.plan(Returns(what), source_options=SourceOptions(input_size=(3, 16, 16)))

    def test_two_axes_are_logits_unless_the_module_or_the_user_says_otherwise(self) -> None:
        size = (3, 16, 16)
        module = Returns("logits")
        assert irbin.open_network(module, SourceOptions(input_size=size)).source.num_classes == 4
        headless = SourceOptions(input_size=size, num_classes=0)
        assert irbin.open_network(module, headless).source.num_classes == 0
        module.num_classes = 0
        assert irbin.open_network(module, SourceOptions(input_size=size)).source.num_classes == 0
