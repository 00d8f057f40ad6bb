"""Whether a packed network is given bytes or floats."""

from __future__ import annotations

from typing import get_args

from irbin.errors import UsageError
from irbin.records.results import InputType
from irbin.runtime.packed import Packed


def input_type_of(model: Packed, wanted: InputType | None) -> InputType:
    """What is asked for; None takes bytes where the network's first layers read them.

    Raises:
        UsageError: see `PackedModel.why_floats`.
    """
    return wanted or ("float32" if model.why_floats else "bytes")


def check_input_type(wanted: object) -> None:
    """Refuses what is no input.

    Raises:
        UsageError: says which there are.
    """
    if wanted not in (None, *get_args(InputType)):
        known = ", ".join(f"`{name}`" for name in get_args(InputType))
        raise UsageError(f"`input_type`: expected one of {known}, got `{wanted}`")
