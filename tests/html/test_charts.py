"""Bars have their figures, whatever they and their whiskers reach to."""

from __future__ import annotations

import math

import pytest

from irbin.html.charts import bars


@pytest.mark.parametrize(
    ("values", "margins"),
    [
        ([2.5, 3.33], [2.1, 2.37]),
        ([1.0, 50.0], [0.5, 49.0]),
        ([0.0, 0.0], [0.0, 0.0]),
        ([math.nan, 1.0], [math.nan, 0.5]),
        ([7.0, 8.0], None),
    ],
)
def test_every_bar_has_its_figure(values: list[float], margins: list[float] | None) -> None:
    """One whose whisker is nearly as long as itself stood outside, and was left out."""
    named = list(zip("ab", values, strict=True))
    drawing = bars("top-1, %", named, lambda value: f"<{value:.2f}>", margins)
    for value in values:
        assert f"&lt;{value:.2f}&gt;" in drawing.svg
