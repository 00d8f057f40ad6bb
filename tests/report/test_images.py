from __future__ import annotations

from dataclasses import replace

from irbin.records.options import Preprocessing, SourceRecord
from irbin.report.images import images_line

SEEN = Preprocessing((1, 28, 28), (0.0,), (1 / 255,), "bilinear", 0.9)


def test_each_value_stands_with_who_stated_it() -> None:
    source = SourceRecord("x", "y", 3, SEEN, stated_by={"mean": "a", "std": "a", "crop_pct": "b"})
    assert images_line(source) == (
        "images 1×28×28: mean 0, std 1/255 (a); bilinear, crop mode center (a guess); "
        "this size as it is, crop 0.9 of others (b)"
    )


def test_timms_own_crop_and_one_number_for_equal_channels() -> None:
    seen = replace(
        SEEN, input_size=(3, 28, 28), mean=(0.5,) * 3, std=(0.1, 0.2, 0.25), small_as_is=False
    )
    source = SourceRecord("x", "y", 3, seen)
    assert images_line(source) == (
        "images 3×28×28: mean 0.5, std 0.1 0.2 0.25, bilinear, crop 0.9, crop mode center "
        "(the folder)"
    )
