"""How images are fed to a network: what its source states, what the user asks for, what is guessed.

`SourceRecord.stated_by` says of every field of `Preprocessing` who stated it. A field that is
missing there was taken for granted, and a trained network may want it otherwise.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Any

from irbin.errors import UsageError
from irbin.messages import counted
from irbin.records.feeding import fault_in
from irbin.records.options import Preprocessing, SourceOptions, SourceRecord

FIELDS = ("mean", "std", "interpolation", "crop_pct", "crop_mode")
"""What can be stated beside the size."""

FLAG, TRAINING = "given by flag", "as trained"

_log = logging.getLogger("irbin")


def stated(by: str, names: Iterable[str] = FIELDS) -> dict[str, str]:
    """`SourceRecord.stated_by` where one party states all of `names`."""
    return dict.fromkeys((name for name in FIELDS if name in set(names)), by)


def as_asked(source: SourceRecord, options: SourceOptions | None) -> SourceRecord:
    """The record with what the user asked for in the place of what the source states.

    Args:
        source: of a network that is made already; the size is changed too.
        options: None asks for nothing.

    Raises:
        UsageError: a value that no image can be fed with, or another number of channels.
    """
    if options is None:
        return source
    seen = source.preprocessing
    changes: dict[str, Any] = {
        name: value for name in FIELDS if (value := getattr(options, name)) is not None
    }
    size = options.size_of(seen.input_size)
    if size[0] != seen.input_size[0]:
        raise UsageError(
            f"`{source.spec}` takes images of {counted(seen.input_size[0], 'channel')}, got "
            f"{size[0]}; "
            "leave that out"
        )
    for name in ("mean", "std"):
        if name in changes:
            changes[name] = _per_channel(name, changes[name], size[0])
    if fault := fault_in(changes):
        raise UsageError(fault)
    if not changes and size == seen.input_size:
        return source
    by = {**(source.stated_by or {}), **stated(FLAG, changes)}
    if source.stated_by is None:
        by = {**stated("the folder"), **by}
    if "crop_pct" in changes or "crop_mode" in changes:  # then the crop is meant, small or not
        changes["small_as_is"] = False
    return replace(source, preprocessing=replace(seen, input_size=size, **changes), stated_by=by)


def after_training(source: SourceRecord) -> dict[str, str]:
    """`stated_by` of a network that was trained on images fed in this way."""
    return {**stated(TRAINING), **(source.stated_by or {})}


def guess(source: SourceRecord) -> str:
    """A sentence where a trained network's normalization was stated by nobody; else ''."""
    if not source.trained or source.stated_by is None:
        return ""
    missing = [name for name in ("mean", "std") if name not in source.stated_by]
    if not missing:
        return ""
    seen = source.preprocessing
    values = ", ".join(
        f"{name} {' '.join(f'{v:.6g}' for v in getattr(seen, name))}" for name in missing
    )
    options = " and ".join(f"`{name}=`" for name in missing)
    return (
        f"nobody stated how `{source.spec}` was fed: {values} is a guess; if it was trained with "
        f"other images, give {options} (`mean=0, std=1/255` for pixels from 0 to 255)"
    )


def warn_of_guess(source: SourceRecord) -> None:
    """Logs `guess`, if there is one."""
    if sentence := guess(source):
        _log.warning("%s", sentence)


def _per_channel(name: str, values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    if len(values) == 1:
        return tuple(values) * channels
    if len(values) != channels:
        raise UsageError(
            f"`{name}`: expected one number, or one for each of {channels} channels, "
            f"got {len(values)}"
        )
    return tuple(values)


assert {*FIELDS} < {field.name for field in fields(Preprocessing)}, "they are its fields"


def for_channels(values: Any, channels: int) -> tuple[float, ...]:
    """Per-channel statistics for another channel count: their average, repeated."""
    floats = tuple(float(value) for value in values)
    if len(floats) == channels:
        return floats
    return (round(sum(floats) / len(floats), 6),) * channels
