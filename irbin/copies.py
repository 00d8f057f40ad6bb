"""A deep copy of a network, also of one that has just computed something."""

from __future__ import annotations

import copy
from typing import Any

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
