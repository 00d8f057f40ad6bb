"""How images are fed to a network, and who says so, as one line."""

from __future__ import annotations

from irbin.records.options import Preprocessing, SourceRecord
from irbin.report.units import shape

NOBODY = "a guess"


def images_line(source: SourceRecord) -> str:
    """Size, normalization, resampling and crop, each with who stated it."""
    return feeding_line(source.preprocessing, source.stated_by)


def feeding_line(seen: Preprocessing, stated_by: dict[str, str] | None) -> str:
    """As `images_line`, of the parts.

    Args:
        seen: how images are fed.
        stated_by: see `SourceRecord.stated_by`.
    """
    groups: dict[str, list[str]] = {}
    for name, words in _facts(seen).items():
        by = "the folder" if stated_by is None else stated_by.get(name, NOBODY)
        groups.setdefault(by, []).append(words)
    told = "; ".join(f"{', '.join(words)} ({by})" for by, words in groups.items())
    return f"images {shape(seen.input_size)}: {told}"


def _facts(seen: Preprocessing) -> dict[str, str]:
    as_is = seen.is_small and seen.small_as_is
    crop = f"{'this size as it is, ' * as_is}crop {seen.crop_pct:g}"
    return {
        "mean": f"mean {_numbers(seen.mean)}",
        "std": f"std {_numbers(seen.std)}",
        "interpolation": seen.interpolation,
        "crop_pct": crop + " of others" * as_is,
        "crop_mode": f"crop mode {seen.crop_mode}",
    }


def _numbers(values: tuple[float, ...]) -> str:
    """`0.485 0.456 0.406`; one number where all are equal, `1/255` where that is meant."""
    if len(set(values)) == 1:
        values = values[:1]
    return " ".join("1/255" if value == 1 / 255 else f"{value:.6g}" for value in values)
