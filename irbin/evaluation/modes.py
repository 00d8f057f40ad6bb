"""How a network is run: in evaluation, under autocast, in exact float32."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from irbin.errors import UsageError


def autocast(
    device: torch.device, dtype: torch.dtype | str | None
) -> contextlib.AbstractContextManager[Any]:
    """torch's autocast to `dtype` or the type of that name, or nothing for None and `off`.

    Raises:
        UsageError: no such type.
    """
    if dtype is None or dtype == "off":
        return contextlib.nullcontext()
    kind = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if kind not in (torch.bfloat16, torch.float16):
        raise UsageError(f"`amp`: expected bfloat16 or float16, got {dtype}")
    return torch.autocast(device.type, dtype=kind)


@contextlib.contextmanager
def exact_float32() -> Iterator[None]:
    """Within, float32 is computed as such, whatever was set; what was set comes back afterwards.

    Left alone, convolutions on Ampere and later round their inputs to 10 bits of mantissa (TF32),
    which turns signs over: the packed network would no longer give the trained one's answers.
    `torch.set_float32_matmul_precision` allows the like on CPUs too.
    """
    cudnn: Any = torch.backends.cudnn  # torch gives its parts no types
    mkldnn: Any = torch.backends.mkldnn
    settings: list[Any] = [torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn]
    settings += [mkldnn.matmul, mkldnn.conv, mkldnn.rnn]
    before = [setting.fp32_precision for setting in settings]
    try:
        for setting in settings:
            setting.fp32_precision = "ieee"
        yield
    finally:
        for setting, value in zip(settings, before, strict=True):
            setting.fp32_precision = value


@contextlib.contextmanager
def evaluating(model: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Evaluation mode within; every submodule gets its own mode back, frozen batch norms too."""
    if not isinstance(model, nn.Module):
        yield
        return
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
