"""An image's answer is the same bits in any batch, on any number of threads, by any kernels.

Of twenty families of convolutional networks here, a network each; the sweep looks at every network
of `docs/coverage.csv`.
"""

from __future__ import annotations

import csv
import warnings
from pathlib import Path

import pytest
import torch

from docs.maintain.coverage import randomize
from irbin import verbs
from irbin.artifact.read import Artifact, read_artifact
from irbin.kernels import native
from irbin.program.types import Node
from irbin.records.options import SourceOptions
from irbin.runtime.calls import runs_torch, short
from irbin.runtime.model import PackedModel
from irbin.sources.spec import load_source

FAMILIES = {
    "ByobNet": "test_byobnet",
    "Xception": "legacy_xception",
    "ConvNeXt": "test_convnext",
    "CSPNet": "cs3darknet_focus_s",
    "DLA": "dla46x_c",
    "EfficientNet": "test_efficientnet",
    "FasterNet": "fasternet_t0",
    "InceptionNeXt": "inception_next_atto",
    "MNASNet": "torchvision:mnasnet0_5",
    "MobileNetV3": "mobilenetv3_small_050",
    "CSPNeXt": "cspnext_tiny",
    "PoolFormer": "poolformerv2_s12",
    "RegNet": "regnetx_002",
    "ResNet": "test_resnet",
    "ResNetV2": "resnetv2_18",
    "SENet": "legacy_seresnet18",
    "ShuffleNetV2": "torchvision:shufflenet_v2_x0_5",
    "SqueezeNet": "torchvision:squeezenet1_1",
    "StarNet": "starnet_s050",
    "VoVNet": "ese_vovnet19b_slim_dw",
}
MOVES = {
    "cat",
    "expand",
    "flip",
    "index",
    "roll",
    "select",
    "slice",
    "split",
    "split_with_sizes",
    "stack",
    "unbind",
    "upsample_nearest2d",
}
"""What torch may run of a network of the sweep that is held to the law: moves of numbers …"""
ELEMENTWISE = {"_to_copy", "abs", "add", "div", "eq", "ge", "gt", "le", "lt", "mul", "neg", "sub"}
"""… and one rounding a number."""
COMPILED = [
    one.name for one in native.implementations() if one.supported and one.name != native.REFERENCE
]
FAST = [one for one in COMPILED if one != "portable"]
"""Without the one whose every fused multiply-add is a function's call; the sweep has it too."""
COVERAGE = Path(__file__).parents[2] / "docs" / "coverage.csv"


def packed(source: str, size: int, folder: Path) -> Artifact:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of other people's networks
        torch.manual_seed(0)
        network = load_source(source, SourceOptions(pretrained=False, input_size=(3, size, size)))
        randomize(network.module)
        verbs.export(verbs.convert(network), folder)
    return read_artifact(folder)


def check(
    artifact: Artifact, x: torch.Tensor, monkeypatch: pytest.MonkeyPatch, implementations: list[str]
) -> None:
    wanted = None
    for name in implementations:
        with native.using(name):
            model = PackedModel(artifact, float_convs=True)
            for n_threads in (1, 2):
                monkeypatch.setattr("irbin.runtime.engine.kernel_threads", lambda n=n_threads: n)
                whole = model(x)
                wanted = whole if wanted is None else wanted
                assert torch.equal(whole, wanted)
                assert all(torch.equal(model(x[i : i + 1]), whole[i : i + 1]) for i in (0, 1))


def images(n: int, size: int) -> torch.Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.slow
@pytest.mark.parametrize("source", FAMILIES.values(), ids=FAMILIES)
def test_an_answer_depends_on_its_image_alone(source, tmp_path, monkeypatch):
    artifact = packed(source, 64, tmp_path / "packed")
    model = PackedModel(artifact, float_convs=True)
    assert {i.op for i in model.items if isinstance(i, Node) and runs_torch(i)} == set()
    check(artifact, images(2, 64), monkeypatch, FAST or COMPILED)


def rows() -> list[tuple[str, int]]:
    with COVERAGE.open(newline="") as file:
        found = [row for row in csv.DictReader(file) if int(row["packed_bytes"])]
    return [(row["source"], int(row["input_size"])) for row in found]


@pytest.mark.sweep
@pytest.mark.parametrize(("source", "size"), rows(), ids=[source for source, _ in rows()])
def test_an_answer_depends_on_its_image_alone_wherever_torch_sums_nothing(
    source, size, tmp_path, monkeypatch
):
    artifact = packed(source, size, tmp_path / "packed")
    items = PackedModel(artifact, float_convs=True).items
    left = {short(item.op) for item in items if isinstance(item, Node) and runs_torch(item)}
    sums = sorted(left - MOVES - ELEMENTWISE)
    if sums:
        pytest.skip(f"torch computes {', '.join(sums)}")
    check(artifact, images(2, size), monkeypatch, COMPILED)
