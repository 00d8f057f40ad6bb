"""Families at small sizes: what ONNX Runtime answers from the file is what `irbin.load` answers."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import irbin
from irbin import SourceOptions
from irbin.artifact.read import read_artifact
from irbin.program.program import Program
from irbin.program.types import Ref
from irbin.runtime.arrays import as_array
from irbin.runtime.engine import Engine

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

FAMILIES = {
    "resnet18": (64, {}),
    "resnet10t": (64, {"activation": "rprelu", "shortcut": "bireal"}),
    "mobilenetv2_050": (64, {"shortcut": "bireal"}),
    "mobilenetv3_small_050": (64, {}),
    "efficientnet_b0": (64, {}),
    "densenet121": (64, {}),
    "convnext_atto": (64, {}),
    "vit_tiny_patch16_224": (224, {}),
    "torchvision:googlenet": (64, {}),
    "torchvision:squeezenet1_1": (64, {}),
    "torchvision:shufflenet_v2_x0_5": (64, {}),
    "test_nfnet": (64, {}),
    "test_coatnet": (160, {}),
    "gmixer_12_224": (224, {}),
}
"""Size and options of the conversion."""


def fed_with_signs(path: Path, program: Program) -> tuple[bytes, dict[str, str]]:
    """The file with signs as inputs and what they are taken of as results: name by name.

    In a network that nobody trained a sign that rounding turns changes everything behind it.
    """
    model = onnx.load(path)
    taken = {
        node.name: ref.name
        for node in program.nodes
        if node.op == "bitpack" and isinstance(ref := node.args[0], Ref)
    }
    graph, made = model.graph, {name for node in model.graph.node for name in node.output}
    taken = {name: of for name, of in taken.items() if name in made}
    kept = [node for node in graph.node if node.output[0] not in taken]
    del graph.node[:]
    graph.node.extend(kept)
    info, kind = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    graph.input.extend(info(name, kind, None) for name in taken)
    results = {name for node in kept for name in node.output} - set(program.outputs)
    graph.output.extend(info(name, kind, None) for name in sorted(results & set(taken.values())))
    return model.SerializeToString(), taken


@pytest.mark.sweep
@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_answers_alike(name: str, tmp_path) -> None:
    """Given the same signs, whatever signs are taken of, and the answer, but for rounding."""
    size, options = FAMILIES[name]
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of other people's networks
        source = SourceOptions(pretrained=False, input_size=(3, size, size))
        irbin.export(irbin.convert(name, source_options=source, **options), tmp_path / "packed")
    irbin.export_onnx(tmp_path / "packed", tmp_path / "net.onnx")
    artifact = read_artifact(tmp_path / "packed")
    content, taken = fed_with_signs(tmp_path / "net.onnx", artifact.program)
    x = np.random.default_rng(0).standard_normal((2, 3, size, size)).astype(np.float32)
    seen: dict[str, np.ndarray] = {}
    answer = Engine(artifact).record(
        x, lambda node, y: seen.update({node.name: y} if node.name in taken.values() else {})
    )
    signs = {key: np.where(as_array(seen[of]) < 0, -1, 1) for key, of in taken.items()}
    settings = ort.SessionOptions()
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
    (images,) = artifact.program.inputs
    given = {images: x, **{key: value.astype(np.float32) for key, value in signs.items()}}
    names = [one.name for one in session.get_outputs()]
    ours = {**seen, **dict(zip(artifact.program.outputs, answer, strict=True))}
    parts = {node.name for node in artifact.program.nodes if node.op == "getitem"}
    assert set(seen) - parts <= {*names, images}  # parts of a split have names of their own
    for result, theirs in zip(names, session.run(None, given), strict=True):
        wanted = as_array(ours[result])
        assert np.abs(theirs - wanted).max() <= 1e-4 * np.abs(wanted).max(), result
