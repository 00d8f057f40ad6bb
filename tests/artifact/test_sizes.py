"""Real networks through trace, plan, rewrite, lower, write and read: sizes as in the paper."""

import pytest
import timm
import torch

from irbin.agreement import compare
from irbin.artifact.write import write_artifact
from irbin.network.network import Network
from irbin.network.plan import make_plan
from irbin.network.rewrite import rewrite
from irbin.network.trace import trace
from irbin.program.lower import lower
from irbin.records import PlanOptions, Preprocessing, SourceRecord
from irbin.runtime.model import load

SOURCE = SourceRecord("resnet18", "timm:resnet18", 1000, Preprocessing())


@pytest.fixture(scope="module")
def resnet18():
    torch.manual_seed(0)
    module = timm.create_model("resnet18").eval()
    plan = make_plan(trace(module, (3, 224, 224)), PlanOptions())
    converted = rewrite(Network(module, SOURCE), plan).module.eval()
    return converted, plan, lower(converted, (3, 224, 224))


@pytest.mark.parametrize(
    ("float_dtype", "at_most"), [("float32", 4_250_000), ("float16", 2_900_000)]
)
def test_imagenet_resnet18_is_as_small_as_the_paper_says(resnet18, tmp_path, float_dtype, at_most):
    _, plan, lowered = resnet18
    record = write_artifact(lowered, SOURCE, plan, tmp_path / "p", float_dtype)
    assert record.n_binary == 16
    assert record.tensor_bytes == record.predicted_bytes
    assert record.total_bytes <= at_most


def test_imagenet_resnet18_answers_from_its_file_as_before(resnet18, tmp_path):
    converted, plan, lowered = resnet18
    write_artifact(lowered, SOURCE, plan, tmp_path / "p")
    model = load(tmp_path / "p")
    assert [node.op for node in model.program.nodes].count("bconv2d") == 16
    torch.manual_seed(1)
    agreement = compare(converted, model, [torch.randn(2, 3, 224, 224)])
    assert agreement.equal_top1 == 100
    assert len(agreement.layers) == 16


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
