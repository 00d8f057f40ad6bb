"""Images as bytes for other people's runtimes: each normalizes them in the way that it offers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from irbin.records.options import Preprocessing

INPUT = "images"
"""Name of the ONNX graph's input."""


@dataclass(frozen=True, eq=False)
class Given:
    """What a runtime gets."""

    plain: nn.Module
    """Of normalized images."""
    images: Tensor
    """As it will be called with."""
    normalization: Preprocessing | None
    """Of bytes."""

    @property
    def network(self) -> nn.Module:
        """Of such images, in torch."""
        return self.plain if self.normalization is None else self.normalizing(self.plain)

    def normalizing(self, rest: nn.Module) -> nn.Module:
        """Bytes normalized, and what follows."""
        assert self.normalization is not None
        return nn.Sequential(Normalize(self.normalization), rest).eval()

    @property
    def normalized(self) -> Tensor:
        """The images as the plain network reads them."""
        if self.normalization is None:
            return self.images
        made: Tensor = Normalize(self.normalization)(self.images)
        return made.contiguous()


class Normalize(nn.Module):
    """uint8 (batch, height, width, channels) to float32 (batch, channels, height, width)."""

    mean: Tensor
    std: Tensor

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        for name in ("mean", "std"):
            values = 255 * torch.tensor(getattr(preprocessing, name))
            self.register_buffer(name, values.view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        return (images.permute(0, 3, 1, 2).float() - self.mean) / self.std


def join_onnx(first: Path, path: Path) -> None:
    """Puts one graph in front of another."""
    import onnx
    from onnx import compose

    before, after = onnx.load(first), onnx.load(path)
    before = compose.add_prefix(before, "normalize_")
    before.ir_version = after.ir_version
    del before.opset_import[:]
    before.opset_import.extend(after.opset_import)
    joints = [(before.graph.output[0].name, after.graph.input[0].name)]
    whole = compose.merge_models(before, after, io_map=joints)
    whole.graph.input[0].name, old = INPUT, whole.graph.input[0].name
    for node in whole.graph.node:
        node.input[:] = [INPUT if name == old else name for name in node.input]
    onnx.save(whole, path)


def of_bytes(model: Any, normalization: Preprocessing) -> Any:
    """An OpenVINO model that normalizes bytes itself."""
    from openvino import Layout, Type
    from openvino.preprocess import PrePostProcessor

    steps = PrePostProcessor(model)
    steps.input().tensor().set_element_type(Type.u8).set_layout(Layout("NHWC"))
    steps.input().model().set_layout(Layout("NCHW"))
    mean, std = ([255 * v for v in values] for values in (normalization.mean, normalization.std))
    steps.input().preprocess().convert_element_type(Type.f32).mean(mean).scale(std)
    return steps.build()
