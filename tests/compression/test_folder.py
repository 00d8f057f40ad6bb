"""`compress.json`: read within bounds, written whole, told where it is damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from irbin.compression.folder import STATE_FILE, began, check_same, keep
from irbin.errors import UsageError
from irbin.records.compression import Compression, Timing

TIMING = Timing(0.5, None, 1, "a processor", "2.14", "avx2", "bytes")


def test_what_is_kept_is_read(tmp_path: Path) -> None:
    record = Compression(str(tmp_path), {"source": "net"}, True, True, ("a",), {"convert": "done"})
    keep(record)
    assert began(tmp_path) == record


def test_a_folder_may_move(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    keep(Compression(str(tmp_path / "a"), {}, timing=TIMING))
    (tmp_path / "a").rename(tmp_path / "b")
    assert began(tmp_path / "b") == Compression(str(tmp_path / "b"), {}, timing=TIMING)


def test_an_empty_folder_and_none_are_begun(tmp_path: Path) -> None:
    assert began(tmp_path) is None
    assert began(tmp_path / "none") is None
    (tmp_path / f"{STATE_FILE}.partial").write_text("{")  # killed while it was first written
    assert began(tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"asked": 1}', '{"asked": [NaN]}', "null"])
def test_damage_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / STATE_FILE).write_text(text)
    with pytest.raises(UsageError, match=r"compress\.json` is damaged \(.*choose another folder$"):
        began(tmp_path)


def test_a_measurement_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    keep(Compression(str(tmp_path), {"a": 1}, timing=TIMING, seconds=3.0))
    value = json.loads((tmp_path / STATE_FILE).read_text())
    value["timing"]["packed_ms"] = None
    (tmp_path / STATE_FILE).write_text(json.dumps(value))
    assert began(tmp_path) == Compression(str(tmp_path), {"a": 1}, seconds=3.0)


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(UsageError, match="exists and is no folder of `compress`"):
        began(tmp_path / "out")


def test_what_differs_is_told_three_at_a_time_and_cut() -> None:
    old = Compression("o", {"source": "a", "data": {"x": [1, 2], "y": None}, "z": "w" * 99})
    with pytest.raises(UsageError) as told:
        check_same(old, {"source": "b", "data": {"x": [], "y": ""}, "z": "v", "u": 1}, Path("o"))
    message = str(told.value)
    assert message.startswith("`o` was begun with other arguments: `source` was a, is b; ")
    assert "`x` was 1, 2, is not given" in message
    assert f"`z` was {'w' * 80}…, is v" in message
    assert "`u`" not in message


def test_not_given_and_empty_are_the_same() -> None:
    old = Compression("o", {"keep": [], "budget": None})
    check_same(old, {"budget": None, "keep": []}, Path("o"))
