from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irbin.report import units


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (9_994, "9.99 kB"),
        (9_995, "10.0 kB"),
        (99_949, "99.9 kB"),
        (99_950, "100 kB"),
        (999_499, "999 kB"),
        (999_500, "1.00 MB"),
        (46_761_000, "46.8 MB"),
        (4_183_320, "4.18 MB"),
    ],
)
def test_bytes_have_three_digits_and_decimal_prefixes(n_bytes: int, text: str) -> None:
    assert units.byte_size(n_bytes) == text


@given(st.floats(min_value=1000, max_value=1e15))
def test_a_count_is_within_half_a_per_cent(value: float) -> None:
    number, prefix = units.count(value).split(" ")
    assert math.isclose(
        float(number.replace(",", "")) * {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}[prefix],
        value,
        rel_tol=0.00501,
    )


@pytest.mark.parametrize(("n", "text"), [(0, "0"), (7, "7"), (999, "999"), (1e3, "1.00 k")])
def test_small_counts_are_plain(n: float, text: str) -> None:
    assert units.count(n) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (100.0, "100.00 %"),
        (99.999, "99.99 %"),  # not all of them
        (0.0, "0.00 %"),
        (0.001, "0.01 %"),  # not none of them
        (93.456, "93.46 %"),
        (math.nan, "–"),
    ],
)
def test_per_cent_says_all_and_none_only_when_true(value: float, text: str) -> None:
    assert units.percent(value) == text
    assert units.bare_percent(value) == text.removesuffix(" %")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00"),
        (59.6, "1:00"),
        (61, "1:01"),
        (3600, "1:00:00"),
        (math.inf, "–"),
        (math.nan, "–"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert units.duration(seconds) == text


@given(st.integers(min_value=0, max_value=10**7))
def test_a_duration_reads_back(seconds: int) -> None:
    parts = [int(part) for part in units.duration(seconds).split(":")]
    total = 0
    for part in parts:
        total = 60 * total + part
    assert total == seconds


def test_ratio_of_nothing_is_a_dash() -> None:
    assert units.ratio(10, 0) == "–"
    assert units.ratio(46_761_000, 4_183_320) == "11.2×"


def test_digits_of_nan_is_a_dash_and_thousands_are_grouped() -> None:
    assert units.digits(math.nan) == "–"
    assert units.digits(1234.5) == "1,234"
    assert units.digits(-0.5) == "-0.50"


def test_number_keeps_small_values() -> None:
    assert units.number(2.5e-05) == "2.5e-05"
    assert units.number(math.nan) == "–"


def test_shape_and_exact_bytes() -> None:
    assert units.shape((512, 512, 3, 3)) == "512×512×3×3"
    assert re.fullmatch(r"4,183,320 bytes", units.exact_bytes(4_183_320))
