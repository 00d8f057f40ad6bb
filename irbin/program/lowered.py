"""What lowering hands over: apart from `lower`, so that writing a file needs no training code."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from irbin.program.program import Program


@dataclass(frozen=True, eq=False)
class Lowered:
    """A program and its constants. Made by `lower`, read by `artifact.write`."""

    program: Program
    """What to compute."""
    tensors: dict[str, Tensor]
    """The program's constants, on the CPU, contiguous, of the declared types."""
