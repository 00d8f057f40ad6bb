"""How many threads a packed network uses: torch's, since kernels run on torch's pool."""

from __future__ import annotations

import torch

from irbin.errors import UsageError


def set_num_threads(n: int) -> None:
    """How many threads packed networks compute on; torch's own operators too, as they share them.

    Raises:
        UsageError: n is not at least 1.
    """
    if n < 1:
        raise UsageError(f"`n`: expected at least 1 thread, got {n}")
    torch.set_num_threads(n)
