"""`--device` in words that torch understands, checked before any long work."""

from __future__ import annotations

from irbin.errors import UsageError


def pick_device(name: str) -> str:
    """The device to compute on; `auto` is cuda where there is one, else cpu.

    Raises:
        UsageError: torch does not know the name, or this machine has no such device.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type in ("cuda", "xpu"):  # a tensor would open the first GPU in every process
            backend = torch.get_device_module(device)
            there = backend.device_count() if backend.is_available() else 0
            assert (device.index or 0) < there
        else:
            torch.empty(0, device=device)
    except Exception as error:  # torch raises RuntimeError, AssertionError, NotImplementedError …
        raise UsageError(
            f"`--device`: expected one that this machine has, got `{name}`; try `cpu` or `auto`"
        ) from error
    return name
