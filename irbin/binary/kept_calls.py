"""Activations called as functions keep the sign of their input while a forward runs.

For forwards that cannot be traced, hence not rewritten: what they call is seen when they call it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from irbin.binary.activations import sign_kept

FUNCTIONS = frozenset({"gelu", "silu", "mish", "hardswish", "tanhshrink", "softshrink"}) | {
    "hardshrink"
}
"""Of torch, by name: those that never have the other sign than their input, but lose it."""


class KeepingSigns(TorchFunctionMode):
    """While it is active, every call of one of `FUNCTIONS` keeps signs as `SignKept` does; final.

    No other number changes, so it does no harm where no sign is taken.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Runs `func`, an activation with what keeps the sign around it."""
        given = kwargs or {}
        if getattr(func, "__name__", "").rstrip("_") not in FUNCTIONS:
            return func(*args, **given)
        rest = {name: value for name, value in given.items() if name != "input"}
        x = args[0] if args else given.get("input")
        if not isinstance(x, Tensor):
            return func(*args, **given)  # which says what is wrong
        return sign_kept(partial(_called, func, args[1:], rest), x)


def _called(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], x: Tensor
) -> Any:
    return func(x, *args, **kwargs)
