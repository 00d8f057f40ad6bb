"""Families at small sizes: what ONNX Runtime answers from the file is what `irbin.load` answers."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

import irbin
from irbin import SourceOptions

pytest.importorskip("onnx")
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


@pytest.mark.sweep
@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_answers_alike(name: str, tmp_path) -> None:
    size, options = FAMILIES[name]
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of other people's networks
        source = SourceOptions(pretrained=False, input_size=(3, size, size))
        network = irbin.convert(name, source_options=source, **options)
        irbin.export(network, tmp_path / "packed")
    irbin.export_onnx(tmp_path / "packed", tmp_path / "net.onnx")
    settings = ort.SessionOptions()
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        tmp_path / "net.onnx", settings, providers=["CPUExecutionProvider"]
    )
    x = np.random.default_rng(0).standard_normal((3, 3, size, size)).astype(np.float32)
    (theirs, *_), ours = (
        session.run(None, {session.get_inputs()[0].name: x}),
        irbin.load(tmp_path / "packed")(x),
    )
    scale = float(np.abs(ours).max())
    off = np.abs(theirs - np.asarray(ours)).max(1) / scale
    # a sign of a value next to zero may turn, in one image; a wrong operator is wrong in all
    assert np.median(off) <= 1e-4, off
