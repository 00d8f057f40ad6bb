from __future__ import annotations

import torch

from irbin.demo.network import demo_net


def test_shapes_and_size() -> None:
    network = demo_net(num_classes=7, in_chans=3).eval()
    assert network(torch.zeros(2, 3, 28, 28)).shape == (2, 7)
    assert sum(p.numel() for p in demo_net().parameters()) < 320_000
