"""Tensors and small arrays on their way to where a batch is: nobody waits for them on CUDA."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """On a device; without waiting only from pinned memory to CUDA.

    Elsewhere a copy that nobody waits for reads memory that may have been given away meanwhile.
    """
    quick = device.type == "cuda" and tensor.is_pinned()
    return tensor.to(device, non_blocking=quick)


def sent(values: npt.NDArray[Any], device: torch.device) -> Tensor:
    """An array on a device; to CUDA from pinned memory, so that the CPU goes on at once.

    Args:
        values: numbers or flags of any shape.
        device: where to.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    return moved(tensor.pin_memory() if device.type == "cuda" else tensor, device)
