"""Numbers as people read them: three significant digits, decimal prefixes (1 MB = 10⁶ bytes).

The papers and larq's tables count megabytes this way, so sizes here can be laid beside theirs.
"""

from __future__ import annotations

import math

DASH = "–"
_PREFIXES = ("", "k", "M", "G", "T")


def scaled(value: float) -> tuple[str, str]:
    """Three significant digits and the decimal prefix: 46_761_000 → ("46.8", "M")."""
    last = _PREFIXES[-1]
    for prefix in _PREFIXES:
        if value < 999.5 or prefix == last:
            break
        value /= 1000
    return (f"{value:.0f}" if prefix == "" else digits(value)), prefix


def digits(value: float) -> str:
    """Three significant digits without an exponent; a dash for nan."""
    if math.isnan(value):
        return DASH
    size = abs(value)
    if size < 9.995:
        return f"{value:.2f}"
    return f"{value:.1f}" if size < 99.95 else f"{value:,.0f}"


def byte_size(n_bytes: float) -> str:
    """`4.18 MB`."""
    number, prefix = scaled(n_bytes)
    return f"{number} {prefix}B"


def exact_bytes(n_bytes: int) -> str:
    """`4,183,320 bytes`."""
    return f"{n_bytes:,} bytes"


def count(n: float) -> str:
    """`1.81 G`; a plain integer below a thousand."""
    number, prefix = scaled(n)
    return f"{number} {prefix}".rstrip()


def ratio(large: float, small: float) -> str:
    """How many times `large` is `small`: `11.2×`; a dash where `small` is 0."""
    return f"{digits(large / small)}×" if small else DASH


def percent(value: float) -> str:
    """`93.42 %`; a dash for nan. Never rounds up to 100 or down to 0."""
    if math.isnan(value):
        return DASH
    shown = round(value, 2)
    if shown == 100 and value < 100:
        shown = 99.99
    if shown == 0 and value > 0:
        shown = 0.01
    return f"{shown:.2f} %"


def bare_percent(value: float) -> str:
    """`percent` without its sign, for a column whose head has it."""
    return percent(value).removesuffix(" %")


def number(value: float) -> str:
    """Four significant digits with an exponent where needed: `0.001`, `2.5e-05`; a dash for nan."""
    return DASH if math.isnan(value) else f"{value:.4g}"


def duration(seconds: float) -> str:
    """`1:02:03`, `2:03`; a dash for nan or infinity."""
    if not math.isfinite(seconds):
        return DASH
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def shape(sizes: tuple[int, ...]) -> str:
    """`512×512×3×3`."""
    return "×".join(str(size) for size in sizes)
