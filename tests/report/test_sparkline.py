from __future__ import annotations

import math

import pytest

from irbin.report.sparkline import sparkline


@pytest.mark.parametrize(
    ("values", "width", "line"),
    [
        ([], 8, ""),
        ([3.0], 8, "▅"),
        ([3.0, 3.0], 8, "▅▅"),
        ([0, 1, 2, 3, 4, 5, 6, 7], 8, "▁▂▃▄▅▆▇█"),
        ([0, 0, 7, 7], 2, "▁█"),
        ([9, 1], 8, "█▁"),
        ([0, math.nan, 7, math.inf], 8, "▁█"),
        ([math.nan], 8, ""),
    ],
)
def test_the_lowest_is_the_lowest_block(values: list[float], width: int, line: str) -> None:
    assert sparkline(values, width) == line


@pytest.mark.parametrize("n", [1, 7, 8, 9, 23, 24, 25, 400])
def test_it_is_never_wider_than_asked_and_keeps_a_rise_a_rise(n: int) -> None:
    line = sparkline([float(i) for i in range(n)], 24)
    assert len(line) == min(n, 24)
    assert list(line) == sorted(line)
