"""Calls that write in place into a tensor that a gradient needs, found where training fails by it.

ReLU's gradient needs its result; that of what replaces it needs what goes in, and a network may
have written there meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, autograd, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from irbin.messages import names_of

_MARK = "modified by an inplace operation"


class _Write(NamedTuple):
    function: str
    place: int
    """Address of the memory."""
    version: int
    """Of the tensor, before."""


class _Writes(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[_Write] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        first = next((a for a in args if isinstance(a, Tensor)), None)
        before = 0 if first is None else first._version
        made = func(*args, **(kwargs or {}))
        if first is not None and first._version != before:
            name = getattr(func, "__name__", str(func))
            self.found.append(_Write(name, _place(first), before))
        return made


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def overwritten(probe: nn.Module, x: Tensor, error: Exception) -> str:
    """What to say of a converted network whose backward failed by a write in place; '' if not so.

    Args:
        probe: a copy of it that may be spoilt.
        x: images.
        error: what its backward raised.
    """
    if _MARK not in str(error):
        return ""
    names = _overwriting(lambda: probe(x))
    what = names_of(names) if names else "a function that works in place"
    return (
        f"the converted network does not train: {what} overwrites what a gradient needs (a "
        "ReLU's needs its result, that of what replaces it what goes in); use functions that are "
        "not in place (`F.relu(x)` for `F.relu_(x)`, `inplace=False`)"
    )


def _overwriting(run: Callable[[], Any]) -> tuple[str, ...]:
    """The first function that wrote into each tensor that a gradient of `run()` then needed."""
    writes, names = _Writes(), dict[str, None]()

    def look(kept: tuple[Tensor, int]) -> Tensor:
        tensor, version = kept
        if tensor._version != version:
            later = (w for w in writes.found if w.place == _place(tensor) and w.version >= version)
            names.update({w.function: None for w in [*later][:1]})
        return tensor

    with writes, autograd.graph.saved_tensors_hooks(lambda t: (t, t._version), look):
        returned = run()
    outputs = [t for t in tree_leaves(returned) if isinstance(t, Tensor) and t.requires_grad]
    torch.stack([t.sum() for t in outputs]).sum().backward()  # type: ignore[no-untyped-call]
    return tuple(names)
