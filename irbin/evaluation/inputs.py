"""How a packed network is given images: as bytes where its first layers read them, or as floats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

from irbin.errors import UsageError
from irbin.records.options import Preprocessing
from irbin.records.results import InputType
from irbin.runtime.model import PackedModel


def input_type_of(model: PackedModel, wanted: InputType | None) -> InputType:
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


def reader_of(
    model: object, preprocessing: Preprocessing, wanted: InputType | None
) -> tuple[Callable[[Any], Any] | None, InputType]:
    """What loaders' batches are given to, (batch, channels, height, width), and as what.

    Args:
        model: a packed network; others read float32, as they are.
        preprocessing: how images are fed, which a manifest may say otherwise.
        wanted: see `input_type_of`.

    Raises:
        UsageError: there is no such input, or see `PackedModel.why_floats`.
    """
    check_input_type(wanted)
    if not isinstance(model, PackedModel):
        return None, "float32"
    fed = model.with_preprocessing(preprocessing)
    chosen = input_type_of(fed, wanted)
    return (fed.channels_first if chosen == "bytes" else fed), chosen
