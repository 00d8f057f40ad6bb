"""Kinds of numbers that knobs of a recipe are: bounded, finite, and no booleans."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError


def _no_boolean(value: object) -> object:
    """Python takes true for 1."""
    if isinstance(value, bool):
        raise PydanticCustomError("number", "Input should be a number")
    return value


Number = BeforeValidator(_no_boolean)
LARGEST = 10**9
"""Of any knob; nobody means more, and its products stay finite."""
Count = Annotated[int, Field(ge=1, le=LARGEST), Number]
Whole = Annotated[int, Field(ge=0, le=LARGEST), Number]
Amount = Annotated[float, Field(ge=0, le=LARGEST, allow_inf_nan=False), Number]
Positive = Annotated[float, Field(gt=0, le=LARGEST, allow_inf_nan=False), Number]
