"""Attributes that a forward sets while it runs (`self.aux_loss = …`), which no graph does."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from torch import fx, nn
from torch.utils._pytree import tree_leaves

_KEPT_BY_TORCH = {"_parameters", "_buffers", "_modules", "training"}


def watch_attributes(module: nn.Module) -> Callable[[], tuple[str, ...]]:
    """Remembers the attributes of `module` and its parts, and what lies in lists and the like.

    Returns:
        Called after a trace, before anything is put back: paths of the attributes that the forward
        gave numbers or tensors computed from the images, or that it counts in, in order.
    """
    before = [(path, part, _held(part)) for path, part in module.named_modules()]

    def assigned() -> tuple[str, ...]:
        return tuple(
            f"{path}.{name}".removeprefix(".")
            for path, part, held in before
            for name, value in _held(part).items()
            if _is_new(held.get(name), value)
        )

    return assigned


def _held(module: nn.Module) -> dict[str, Any]:
    own = {n: v for n, v in vars(module).items() if n not in _KEPT_BY_TORCH}
    return {n: copy.copy(v) if type(v) in (dict, list) else v for n, v in own.items()}


def _is_new(before: Any, now: Any) -> bool:
    if type(now) in (int, float):
        return type(before) in (int, float) and bool(before != now)
    if before is now or (type(now) is not fx.Proxy and type(now) not in (dict, list, tuple)):
        return False
    return any(isinstance(leaf, fx.Proxy) for leaf in tree_leaves(now))
