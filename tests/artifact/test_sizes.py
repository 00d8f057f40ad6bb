"""Real networks through trace, plan, rewrite, lower, write and read: sizes as in the paper."""

from functools import cache

import pytest
import timm
import torch
from torch import nn

from irbin.artifact.read import read_artifact
from irbin.artifact.write import write_artifact
from irbin.evaluation.agreement import compare
from irbin.kernels import native
from irbin.planning.plan import make_plan
from irbin.program.lower import lower
from irbin.program.lowered import Lowered
from irbin.records.options import Preprocessing, SourceRecord
from irbin.records.plan import Plan, PlanOptions
from irbin.rewriting.network import Network
from irbin.rewriting.rewrite import rewrite
from irbin.runtime.loading import load
from irbin.runtime.model import PackedModel
from irbin.sources.paper import CifarResNet
from irbin.tracing.trace import trace

SOURCE = SourceRecord("resnet18", "timm:resnet18", 1000, Preprocessing())
SMALL = SourceRecord("small", "module:x:y", 5, Preprocessing((3, 13, 12)))


@pytest.fixture(scope="module")
def resnet18():
    torch.manual_seed(0)
    module = timm.create_model("resnet18").eval()
    plan = make_plan(trace(module, (3, 224, 224)), PlanOptions())
    converted = rewrite(Network(module, SOURCE), plan).module.eval()
    return converted, plan, lower(converted, (3, 224, 224))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("float_dtype", "at_most"), [("float32", 4_250_000), ("float16", 2_900_000)]
)
def test_imagenet_resnet18_is_as_small_as_the_paper_says(resnet18, tmp_path, float_dtype, at_most):
    _, plan, lowered = resnet18
    record = write_artifact(lowered, SOURCE, plan, tmp_path / "p", float_dtype)
    assert record.n_binary == 16
    assert record.tensor_bytes == record.predicted_bytes
    assert record.total_bytes <= at_most


@pytest.mark.slow
def test_imagenet_resnet18_answers_from_its_file_as_before(resnet18, tmp_path):
    converted, plan, lowered = resnet18
    write_artifact(lowered, SOURCE, plan, tmp_path / "p")
    model = load(tmp_path / "p")
    assert [node.op for node in model.program.nodes].count("bconv2d") == 16
    torch.manual_seed(1)
    agreement = compare(converted, model, [torch.randn(2, 3, 224, 224)])
    assert agreement.equal_top1 == 100
    assert len(agreement.layers) == 16


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "bits", "binarizer"),
    [
        ("test_resnet", "1w1a", "libra"),
        ("test_efficientnet", "1w1a", "plain"),
        ("test_vit", "1w32a", "plain"),
    ],
)
def test_small_real_networks_come_to_the_predicted_bytes(tmp_path, name, bits, binarizer):
    module = timm.create_model(name, num_classes=5).eval()
    side = 160 if "vit" in name else 64
    source = SourceRecord(name, f"timm:{name}", 5, Preprocessing((3, side, side)))
    size = source.preprocessing.input_size
    plan = make_plan(trace(module, size), PlanOptions(bits=bits, binarizer=binarizer))
    converted = rewrite(Network(module, source), plan).module
    record = write_artifact(lower(converted, size), source, plan, tmp_path / "p", "float16")
    assert record.tensor_bytes == record.predicted_bytes
    assert load(tmp_path / "p")(torch.randn(1, *size)).shape == (1, 5)


SWITCHES = [
    # bits, activation, sign threshold, shortcut, downsample, balance, the network's own shortcut
    ("1w1a", "rprelu", "learned", "bireal", "avgpool", "median", "pad"),
    ("1w1a", "rprelu", "zero", "none", "keep", "mean", "conv"),
    ("1w1a", "rprelu", "learned", "none", "avgpool", "mean", "conv"),
    ("1w1a", "prelu", "learned", "bireal", "keep", "mean", "conv"),
    ("1w1a", "prelu", "zero", "none", "avgpool", "median", "pad"),
    ("1w1a", "hardtanh", "learned", "none", "keep", "median", "pad"),
    ("1w1a", "hardtanh", "zero", "bireal", "avgpool", "mean", "conv"),
    ("1w32a", "hardtanh", "zero", "bireal", "avgpool", "median", "conv"),
    ("1w32a", "hardtanh", "zero", "none", "avgpool", "median", "pad"),
]
"""Every two of them together."""


def train(module: nn.Module) -> None:
    """Moves every parameter but latent weights, in place, as if trained, and to where ties are."""
    for name, parameter in module.named_parameters():
        if not isinstance(module.get_submodule(name.rpartition(".")[0]), nn.Conv2d | nn.Linear):
            nn.init.normal_(parameter)  # negative scales and slopes too
        elif name.endswith("threshold"):
            nn.init.normal_(parameter)
            parameter.data[:2] = torch.tensor([0.0, -0.0])
    for norm in module.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(norm.running_mean, std=3)
            nn.init.uniform_(norm.running_var, 0.5, 30)
            norm.weight.data[:3], norm.bias.data[:2] = 0.0, -0.0


@cache
def trained_and_lowered(switches: tuple[str, ...]) -> tuple[nn.Module, Plan, Lowered]:
    torch.manual_seed(0)
    names = ("bits", "activation", "sign_threshold", "shortcut", "downsample", "balance")
    options = PlanOptions(**dict(zip(names, switches, strict=False)))
    module = CifarResNet((8, 16, 33), 1, switches[-1], True, 5, 3)
    plan = make_plan(trace(module, SMALL.preprocessing.input_size), options)
    converted = rewrite(Network(module, SMALL), plan).module
    train(converted)
    return converted.eval(), plan, lower(converted, SMALL.preprocessing.input_size)


@pytest.mark.slow
@pytest.mark.parametrize("switches", SWITCHES, ids="-".join)
@pytest.mark.parametrize("float_dtype", ["float32", "float16"])
def test_every_two_switches_go_the_whole_way(tmp_path, switches, float_dtype):
    converted, plan, lowered = trained_and_lowered(switches)
    record = write_artifact(lowered, SMALL, plan, tmp_path / "p", float_dtype)
    assert record.tensor_bytes == record.predicted_bytes
    torch.manual_seed(1)
    artifact, x = read_artifact(tmp_path / "p"), torch.randn(7, *SMALL.preprocessing.input_size)
    assert artifact.manifest.plan == plan
    model = PackedModel(artifact, float_convs=True)
    found = model(x)
    with native.using(native.REFERENCE):
        assert torch.equal(PackedModel(artifact, (), float_convs=True)(x), found)
    if float_dtype == "float32":
        agreement = compare(converted, model, [x])
        assert agreement.equal_top1 == 100
        assert agreement.max_difference < 1e-4 * max(1, found.abs().max())
        assert [layer.n_flipped for layer in agreement.layers] == [0] * len(agreement.layers)
        assert len(agreement.layers) == (6 if switches[0] == "1w1a" else 0)
