"""How a network is written as C; torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from irbin.errors import UsageError
from irbin.records.given import check_record
from irbin.records.knob import Knob

CInput = Literal["float32", "uint8"]
CKernels = Literal["portable", "simd"]
CWeights = Literal["c", "binary"]
C = "C"
MOST_TEST_IMAGES = 1000


@dataclass(frozen=True)
class COptions:
    """How a network is written as C. Made by the command line, read by `emit.folder`."""

    name: Annotated[
        str | None, Knob(C, "Of the C functions and files.", "NAME", shown="made of SOURCE")
    ] = None
    input: Annotated[
        CInput,
        Knob(C, "Images as normalized floats, planes; or as bytes of pixels, channels last."),
    ] = "float32"
    """Bytes need first layers that compute on them in integers."""
    weights: Annotated[
        CWeights,
        Knob(C, "Constants as arrays in C; or as one file that the assembler takes in."),
    ] = "c"
    kernels: Annotated[
        CKernels,
        Knob(
            C, "One set for every processor; or also AVX-512, AVX2 and NEON, chosen when it runs."
        ),
    ] = "portable"
    test_images: Annotated[int, Knob(C, "Images that the C test compares.", "N")] = 4

    def __post_init__(self) -> None:
        check_record(self, values=True)
        if not 1 <= self.test_images <= MOST_TEST_IMAGES:
            raise UsageError(
                f"`test_images`: expected a number from 1 to {MOST_TEST_IMAGES}, got "
                f"{self.test_images}"
            )
