from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from irbin.records.feeding import CROP_MODES, INTERPOLATIONS, fault_in, fault_of
from irbin.records.options import Preprocessing

PLAIN = Preprocessing()


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("crop_mode", CROP_MODES)
def test_what_timm_calls_so_is_taken(interpolation: str, crop_mode: str) -> None:
    assert not fault_of(replace(PLAIN, interpolation=interpolation, crop_mode=crop_mode))


@pytest.mark.parametrize(
    "changes",
    [
        {"mean": (0.0,), "std": (1 / 255,)},
        {"mean": (-1e6,) * 3, "std": (1e-6,) * 3},
        {"input_size": (1, 1, 65536), "mean": (0.5,), "std": (0.5,)},
        {"crop_pct": 3.0},
    ],
)
def test_borders_are_taken(changes: dict[str, Any]) -> None:
    assert not fault_of(replace(PLAIN, **changes))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        (
            {"input_size": (3, -1, 32)},
            "`input_size`: expected sizes from 1 to 65536, got [3, -1, 32]",
        ),
        ({"input_size": (0, 32, 32)}, "`input_size`: expected sizes"),
        ({"input_size": (3, 65537, 32)}, "`input_size`: expected sizes"),
        ({"mean": ()}, "`mean`: expected a number for each of 3 channels, got none"),
        ({"std": ()}, "`std`: expected a number for each of 3 channels, got none"),
        ({"mean": (0.5, 0.5)}, "`mean`: expected a number for each of 3 channels, got 2"),
        ({"std": (0.5,) * 4}, "`std`: expected a number for each of 3 channels, got 4"),
        ({"std": (0.1, 0.0, 0.1)}, "`std`: expected a number above 0, got 0.0"),
        ({"std": (0.1, math.nan, 0.1)}, "`std`: expected a number above 0, got nan"),
        ({"std": (math.inf,)}, "`std`: expected a finite number, got inf"),
        ({"std": (1e-7,)}, "`std`: expected a number from 1e-06 to 1e+06, got 1e-07"),
        ({"mean": (1e308,) * 3}, "`mean`: expected a number from -1e+06 to 1e+06, got 1e+308"),
        ({"mean": (math.nan,)}, "`mean`: expected a finite number, got nan"),
        ({"crop_pct": -5.0}, "`crop_pct`: expected a share above 0, got -5.0"),
        ({"crop_pct": 1e-320}, "`crop_pct`: expected a share above 0, got 1e-320"),
        ({"crop_pct": math.nan}, "`crop_pct`: expected a share above 0, got nan"),
        ({"interpolation": "foo"}, "`interpolation`: expected one of nearest, bilinear"),
        ({"crop_mode": ""}, "`crop_mode`: expected one of center, squash, border, got ``"),
    ],
)
def test_what_no_image_can_be_fed_with_is_told(changes: dict[str, Any], fault: str) -> None:
    assert fault_of(replace(PLAIN, **changes)).startswith(fault)


def test_fields_that_are_not_given_have_no_fault() -> None:
    assert fault_in({}) == ""
