"""Small arrays on their way to where a batch is: nobody waits for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def sent(values: npt.NDArray[Any], device: torch.device) -> Tensor:
    """An array on a device; to CUDA from pinned memory, so that the CPU goes on at once.

    Args:
        values: numbers or flags of any shape.
        device: where to.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
