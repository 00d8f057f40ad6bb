"""How a packed network is given images: as bytes where its first layers read them, or as floats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from irbin.records.options import Preprocessing
from irbin.records.results import InputType
from irbin.runtime.inputs import check_input_type, input_type_of
from irbin.runtime.model import PackedModel


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
