"""Code that runs in an autograd function, whose backward no graph of a forward holds."""

from __future__ import annotations

import sys
from types import CodeType, FrameType

import torch


def is_in_autograd_function() -> bool:
    """Whether what runs was called by the forward of a `torch.autograd.Function`."""
    forwards, kinds = set[CodeType | None](), torch.autograd.Function.__subclasses__()
    while kinds:  # `apply` itself is C++ and leaves no frame
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        forwards.add(getattr(kind.forward, "__code__", None))
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code not in forwards:
        frame = frame.f_back
    return frame is not None
