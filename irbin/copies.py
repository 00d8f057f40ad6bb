"""Networks in the plain: copies after a step, float32 by whatever default, all Python."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def copied(module: nn.Module, memo: dict[int, Any] | None = None) -> nn.Module:
    """A deep copy, where `copy.deepcopy` refuses tensors with a history.

    Modules whose weight a hook computes (pruning, weight norm) keep such a tensor after every call.

    Args:
        module: left as it is.
        memo: as `copy.deepcopy` takes it: what stands for what, by its id.
    """
    memo = {} if memo is None else memo
    for m in module.modules():
        for value in vars(m).values():
            if isinstance(value, Tensor) and value.grad_fn is not None:
                memo.setdefault(id(value), value.detach().clone())
    return copy.deepcopy(module, memo)


def scripted_parts(module: nn.Module) -> list[str]:
    """Paths of what TorchScript compiled, without the parts of such parts; '' for the network."""
    scripted: list[str] = []
    for path, part in module.named_modules():
        inside = any(not outer or path.startswith(f"{outer}.") for outer in scripted)
        if isinstance(part, torch.jit.ScriptModule) and not inside:
            scripted.append(path)
    return scripted


@contextmanager
def plain_floats() -> Iterator[None]:
    """Within, new tensors are float32 and can be trained, whatever the caller has chosen."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.inference_mode(False):
            yield
    finally:
        torch.set_default_dtype(before)
