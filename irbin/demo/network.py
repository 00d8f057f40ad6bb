"""The demo's network: a residual network small enough to ship and to train on two cores.

A factory like the one a user writes for `module:package.mod:factory`; nothing in it knows irbin.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = (32, 64, 128)
"""Channels of the three stages, at 14×14, 7×7 and 4×4 pixels."""


class Block(nn.Module):
    """Two 3×3 convolutions and a bypass, the basic block of He et al. (CVPR 2016)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.act1 = nn.ReLU()
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.act2 = nn.ReLU()
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, h, w) to (batch, out_channels, ⌈h/stride⌉, ⌈w/stride⌉)."""
        y = self.act1(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.act2(y + self.downsample(x))  # type: ignore[no-any-return]


class DemoNet(nn.Module):
    """Maps (batch, in_chans, 28, 28) to (batch, num_classes)."""

    def __init__(self, num_classes: int, in_chans: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(in_chans, WIDTHS[0], 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(WIDTHS[0])
        self.act = nn.ReLU()
        self.stage1 = Block(WIDTHS[0], WIDTHS[0], 1)
        self.stage2 = Block(WIDTHS[0], WIDTHS[1], 2)
        self.stage3 = Block(WIDTHS[1], WIDTHS[2], 2)
        self.head = nn.Linear(WIDTHS[2], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits; shapes in the class docstring."""
        x = self.act(self.bn(self.stem(x)))
        x = self.stage3(self.stage2(self.stage1(x)))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))  # type: ignore[no-any-return]


def demo_net(num_classes: int = 10, in_chans: int = 1) -> DemoNet:
    """The factory: `module:irbin.demo.network:demo_net`."""
    network = DemoNet(num_classes, in_chans)
    network.pretrained_cfg = {  # type: ignore[assignment]  # read by `irbin.sources.spec`
        "input_size": (in_chans, 28, 28),
        "mean": (0.286,) * in_chans,
        "std": (0.353,) * in_chans,
        "interpolation": "bilinear",
        "crop_pct": 1.0,
    }
    return network
