"""Random numbers of torch, NumPy and Python from a few whole numbers."""

from __future__ import annotations

import random

import numpy as np
import torch


def seed_all(*key: int, device: torch.device | None = None) -> None:
    """Seeds torch, NumPy and Python from a few whole numbers; equal keys give equal streams."""
    state = 0
    for part in key:  # splitmix64, so that neighbouring keys share nothing
        state = (state + part + 1) * 0x9E3779B97F4A7C15 % 2**64
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        state = (state ^ state >> 27) * 0x94D049BB133111EB % 2**64
        state ^= state >> 31
    # torch.manual_seed visits every back end and takes a hundred times as long
    torch.default_generator.manual_seed(state >> 32)
    if device is not None:
        _seed_device(device, state >> 32)
    random.seed(state)
    np.random.seed(state >> 32)  # timm's augmentations draw from the global one


def _seed_device(device: torch.device, seed: int) -> None:
    """Seeds the generator that random numbers on a device come from."""
    if device.type in ("cuda", "xpu"):
        backend = torch.cuda if device.type == "cuda" else torch.xpu
        index = backend.current_device() if device.index is None else device.index
        backend.default_generators[index].manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)
