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

    torch keeps this twice: older words (`allow_tf32`, `set_float32_matmul_precision`) have flags
    of their own beside the precision of each operation, and reading them raises where the two
    disagree. So both are set, and all of them can be read within. Not all comes back as it was
    made: what the default says of convolutions stands for itself afterwards, as if `allow_tf32`
    had been set to what it was.
    """
    backends: Any = torch.backends  # torch gives its parts no types
    parts: list[Any] = [backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul]
    parts += [backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn]
    # what says nothing of its own follows these, and goes on doing so
    wholes: list[Any] = [backends, backends.cudnn]
    before, before_of_wholes = _each(parts), _each(wholes)
    with settable_flags():
        allowed, precision = _older_words(parts)
    try:
        with settable_flags():
            _set_older_words(False, "highest", allowed, precision)
            for some in (wholes, parts):
                _set_each(some, ["ieee"] * len(some))
        yield
    finally:
        with settable_flags():
            _set_each(wholes, before_of_wholes)
            _set_older_words(allowed, precision, False, "highest")
            _set_each(parts, before)


def settable_flags() -> contextlib.AbstractContextManager[None]:
    """Within, flags of torch's back ends can be set, also after `disable_global_flags`.

    torch's own testing package calls that on import; its `flags()` do the same to set theirs.
    """
    allow: Callable[[], contextlib.AbstractContextManager[None]]
    allow = getattr(torch.backends, "__allow_nonbracketed_mutation")  # not mangled
    return allow()


def _older_words(parts: list[Any]) -> tuple[bool, str]:
    """`cudnn.allow_tf32` and the precision of products, by torch's older flags.

    Where they cannot be read, `parts` are changed until they can.
    """
    cudnn: Any = torch.backends.cudnn
    convolutions, recurrences, *products = parts[:4]
    try:
        allowed = bool(cudnn.allow_tf32)
    except RuntimeError:
        _set_each([convolutions, recurrences], ["tf32"] * 2)
        try:
            allowed = bool(cudnn.allow_tf32)
        except RuntimeError:
            allowed = False
    try:
        return allowed, torch.get_float32_matmul_precision()
    except RuntimeError:
        _set_each(products, ["ieee"] * 2)
        return allowed, torch.get_float32_matmul_precision()


def _set_older_words(allowed: bool, precision: str, allowed_now: bool, precision_now: str) -> None:
    """Sets those that change: each sets the precision of its operations as well."""
    cudnn: Any = torch.backends.cudnn
    if allowed != allowed_now:
        cudnn.allow_tf32 = allowed
    if precision != precision_now:
        torch.set_float32_matmul_precision(precision)


def _each(parts: list[Any]) -> list[str]:
    return [part.fp32_precision for part in parts]


def _set_each(parts: list[Any], words: list[str]) -> None:
    """Sets the precision of those operations that have another."""
    for part, word in zip(parts, words, strict=True):
        if part.fp32_precision != word:
            part.fp32_precision = word


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
