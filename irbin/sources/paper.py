"""The paper's networks, float: what `paper:NAME` builds.

Structure and, for CIFAR, parameter names follow the authors' code, so that converting with Hardtanh
(and Bi-Real shortcuts for ResNet-20 and those for ImageNet) gives their binary networks (IR-Net,
Qin et al., CVPR 2020, §4). Differences: ReLU, since these are the float sources; no LogSoftmax,
which cross-entropy applies anyway; the ResNets take any image size that leaves a pixel to pool.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from irbin.errors import SourceError
from irbin.records.options import Preprocessing


class PadShortcut(nn.Module):
    """The parameter-free shortcut of CIFAR ResNets (He et al., CVPR 2016, §4.2, option A).

    Keeps every `stride`-th pixel and pads zero channels evenly on both sides: maps (batch,
    in_channels, height, width) to (batch, out_channels, ⌈height/stride⌉, ⌈width/stride⌉).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.before = (out_channels - in_channels) // 2
        self.after = out_channels - in_channels - self.before

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102 - shapes in the class docstring
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, self.before, self.after))


class BasicBlock(nn.Module):
    """act(BN(conv(act(BN(conv(x))))) + shortcut(x)), with ONE activation module for both places.

    One module, so that replacing the activation in front of the second convolution also replaces
    the one on the residual trunk, as in the authors' networks.

    Args:
        in_channels: of the input.
        out_channels: of both convolutions.
        stride: of the first convolution.
        shortcut: where the shape changes, `pad` (option A) or `conv` (1×1 convolution, batch norm).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.act = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = _SHORTCUTS[shortcut](in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        out = self.act(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        y: Tensor = self.act(out + self.shortcut(x))
        return y


def _conv_shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    conv = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))


_SHORTCUTS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "pad": PadShortcut,
    "conv": _conv_shortcut,
}


def _stages(widths: Sequence[int], depths: Sequence[int], shortcut: str) -> list[nn.Sequential]:
    """Residual stages; every one after the first halves the resolution.

    Args:
        widths: channels of each; the stem has those of the first.
        depths: blocks of each.
        shortcut: see `BasicBlock`.
    """
    stages, channels = [], widths[0]
    for i, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        blocks = []
        for j in range(depth):
            blocks.append(BasicBlock(channels, width, 2 if i > 0 and j == 0 else 1, shortcut))
            channels = width
        stages.append(nn.Sequential(*blocks))
    return stages


class CifarResNet(nn.Module):
    """A residual network with a 3×3 stem and the authors' batch norm in front of the classifier.

    Maps (batch, in_chans, height, width) to (batch, num_classes).

    Args:
        widths: channels of each stage; every stage after the first halves the resolution.
        n_blocks: residual blocks a stage.
        shortcut: `pad` or `conv`, see `BasicBlock`.
        stem_act: whether an activation follows the stem (the authors' ResNet-20 has one, their
            ResNet-18 none).
        num_classes: outputs.
        in_chans: image channels.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        n_blocks: int,
        shortcut: str,
        stem_act: bool,
        num_classes: int,
        in_chans: int,
    ) -> None:
        super().__init__()
        self.num_classes, self.num_features = num_classes, widths[-1]
        self.conv1 = nn.Conv2d(in_chans, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.act: nn.Module = nn.ReLU() if stem_act else nn.Identity()
        self.n_stages = len(widths)
        for i, stage in enumerate(_stages(widths, [n_blocks] * len(widths), shortcut)):
            self.add_module(f"layer{i + 1}", stage)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.bn2 = nn.BatchNorm1d(widths[-1])
        self.linear = nn.Linear(widths[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102 - shapes in the class docstring
        x = self.act(self.bn1(self.conv1(x)))
        for i in range(self.n_stages):
            x = self.get_submodule(f"layer{i + 1}")(x)
        x = self.pool(x).flatten(1)  # (batch, channels)
        y: Tensor = self.linear(self.bn2(x))
        return y


class ImageNetResNet(nn.Module):
    """ResNet for photographs with the authors' batch norm in front of the classifier.

    Maps (batch, in_chans, height, width) to (batch, num_classes). Stem: 7×7 convolution of stride
    2, batch norm, activation, 3×3 maximum pooling of stride 2; shortcuts that change shape: 1×1
    convolution, batch norm. Every γ begins at 1; convolutions as in the authors' code at
    N(0, 2/(kernel area · out_channels)).

    Args:
        depths: residual blocks of the four stages, of 64 to 512 channels.
        num_classes: outputs.
        in_chans: image channels.
    """

    def __init__(self, depths: tuple[int, ...], num_classes: int, in_chans: int) -> None:
        super().__init__()
        self.num_classes, self.num_features = num_classes, 512
        self.conv1 = nn.Conv2d(in_chans, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.act = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        self.layer1, self.layer2, self.layer3, self.layer4 = _stages(
            (64, 128, 256, 512), depths, "conv"
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.bn2 = nn.BatchNorm1d(512)
        self.fc = nn.Linear(512, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102 - shapes in the class docstring
        x = self.maxpool(self.act(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        x = self.avgpool(x).flatten(1)  # (batch, channels)
        y: Tensor = self.fc(self.bn2(x))
        return y


class VggSmall(nn.Module):
    """VGG-Small for 32×32 images: six 3×3 convolutions, three pooled before their batch norm.

    Maps (batch, in_chans, 32, 32) to (batch, num_classes). One activation module serves all places.
    """

    def __init__(self, num_classes: int, in_chans: int) -> None:
        super().__init__()
        self.num_classes, self.num_features = num_classes, 512 * 4 * 4
        widths = (in_chans, 128, 128, 256, 256, 512, 512)
        for i in range(6):
            conv = nn.Conv2d(widths[i], widths[i + 1], 3, padding=1, bias=False)
            self.add_module(f"conv{i}", conv)
            self.add_module(f"bn{i}", nn.BatchNorm2d(widths[i + 1]))
        self.pooling = nn.MaxPool2d(2)
        self.act = nn.ReLU()
        self.fc = nn.Linear(self.num_features, num_classes)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102 - shapes in the class docstring
        for i in range(6):
            x = self.get_submodule(f"conv{i}")(x)
            if i % 2 == 1:
                x = self.pooling(x)
            x = self.act(self.get_submodule(f"bn{i}")(x))
        y: Tensor = self.fc(x.flatten(1))
        return y


def resnet20(num_classes: int = 10, in_chans: int = 3) -> CifarResNet:
    """ResNet-20: option-A shortcuts, Kaiming-normal initialization as in the authors' code."""
    network = CifarResNet((16, 32, 64), 3, "pad", True, num_classes, in_chans)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
    return network


def resnet18(num_classes: int = 10, in_chans: int = 3) -> CifarResNet:
    """ResNet-18 with a 3×3 stem: 1×1 convolutions on the shortcuts, no activation at the stem."""
    return CifarResNet((64, 128, 256, 512), 2, "conv", False, num_classes, in_chans)


def vgg_small(num_classes: int = 10, in_chans: int = 3) -> VggSmall:
    """VGG-Small."""
    return VggSmall(num_classes, in_chans)


def resnet18_imagenet(num_classes: int = 1000, in_chans: int = 3) -> ImageNetResNet:
    """ResNet-18 of the paper's ImageNet experiments."""
    return ImageNetResNet((2, 2, 2, 2), num_classes, in_chans)


def resnet34_imagenet(num_classes: int = 1000, in_chans: int = 3) -> ImageNetResNet:
    """ResNet-34 of the paper's ImageNet experiments."""
    return ImageNetResNet((3, 4, 6, 3), num_classes, in_chans)


CIFAR = Preprocessing(input_size=(3, 32, 32), crop_pct=1.0)
"""The authors feed CIFAR with ImageNet's statistics; 32×32 images are not resized."""
IMAGENET = Preprocessing(interpolation="bilinear")
"""256 → 224, as the authors' configuration says."""


@dataclass(frozen=True)
class PaperNetwork:
    """One of the paper's networks. Listed in `PAPER_NETWORKS`, read by `sources.spec`."""

    build: Callable[[int, int], nn.Module]
    """Of outputs and image channels."""
    num_classes: int = 10
    """Outputs where nobody says otherwise."""
    preprocessing: Preprocessing = CIFAR
    """How it is fed."""


PAPER_NETWORKS: dict[str, PaperNetwork] = {
    "resnet20": PaperNetwork(resnet20),
    "resnet18": PaperNetwork(resnet18),
    "vgg-small": PaperNetwork(vgg_small),
    "resnet18-imagenet": PaperNetwork(resnet18_imagenet, 1000, IMAGENET),
    "resnet34-imagenet": PaperNetwork(resnet34_imagenet, 1000, IMAGENET),
}
"""By the name after `paper:`."""


def paper_network(name: str) -> PaperNetwork:
    """What is known of `paper:NAME`.

    Raises:
        SourceError: `name` is none of them.
    """
    if name not in PAPER_NETWORKS:
        known = ", ".join(f"`paper:{known}`" for known in PAPER_NETWORKS)
        raise SourceError(f"unknown network `paper:{name}`: expected one of {known}")
    return PAPER_NETWORKS[name]


def build_paper(name: str, num_classes: int | None = None, in_chans: int = 3) -> nn.Module:
    """One of the paper's networks, float, with random weights.

    Args:
        name: after `paper:`.
        num_classes: outputs; None takes the paper's.
        in_chans: image channels.

    Raises:
        SourceError: `name` is none of them.
    """
    network = paper_network(name)
    return network.build(network.num_classes if num_classes is None else num_classes, in_chans)
