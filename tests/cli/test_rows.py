from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from irbin.cli.rows import check_parquet, format_of, written
from irbin.errors import UsageError

COLUMNS = {"file": str, "index": int, "share": float}
ROWS: list[dict[str, Any]] = [
    {"file": 'a,"b"\n.png', "index": 1, "share": 0.5},
    {"file": "ü ×.png"},
    {"file": "", "index": 0, "share": 1e-300},
]


def write(kind: Any, path: str, rows: list[dict[str, Any]]) -> None:
    with written(kind, path, COLUMNS) as to:
        for row in rows:
            to.add(row)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_csv_comes_back(tmp_path: Path, n: int) -> None:
    write("csv", str(tmp_path / "a.csv"), ROWS[:n])
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert found == [{name: str(row.get(name, "")) for name in COLUMNS} for row in ROWS[:n]]


@pytest.mark.parametrize("n", [0, 1, 3])
def test_json_comes_back(tmp_path: Path, n: int) -> None:
    write("json", str(tmp_path / "a.json"), ROWS[:n])
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == ROWS[:n]


@pytest.mark.parametrize("n", [0, 1, 3, 1023, 1024, 1025])
def test_parquet_comes_back(tmp_path: Path, n: int) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = (ROWS * 342)[:n]
    write("parquet", str(tmp_path / "a.parquet"), rows)
    found = parquet.read_table(tmp_path / "a.parquet")
    assert found.column_names == list(COLUMNS)
    assert found.to_pylist() == [{name: row.get(name) for name in COLUMNS} for row in rows]


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
def test_what_is_not_finished_leaves_the_file_as_it_was(tmp_path: Path, kind: str) -> None:
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    place = tmp_path / f"a.{kind}"
    place.write_text("before")

    def interrupted() -> None:
        with written(kind, str(place), COLUMNS) as to:  # type: ignore[arg-type]
            to.add(ROWS[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert place.read_text() == "before"
    assert [file.name for file in tmp_path.iterdir()] == [place.name]


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_standard_output_is_written_as_it_comes(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with written(kind, "-", COLUMNS) as to:  # type: ignore[arg-type]
        to.add(ROWS[0])
        assert "a," in capsys.readouterr().out


def test_json_of_an_ascii_stream_is_ascii(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "out").open("w", encoding="ascii") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        write("json", "-", ROWS)
    assert json.loads((tmp_path / "out").read_text()) == ROWS


def test_a_files_ending_says_its_format() -> None:
    assert [format_of(name) for name in ("a.csv", "a.JSON", "b/c.d.csv")] == ["csv", "json", "csv"]
    assert format_of("a.txt", "csv") == "csv"
    for name in ("a", "a.txt", "csv"):
        with pytest.raises(UsageError, match=r"ends in \.csv"):
            format_of(name)


def test_what_writes_parquet_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'irbin\[parquet\]'"):
        check_parquet("parquet")
    check_parquet("csv")


def test_names_that_are_no_text_are_kept_where_a_format_can(tmp_path: Path) -> None:
    name = "a\udcff.png"
    write("csv", str(tmp_path / "a.csv"), [{"file": name}])
    assert b"\na\xff.png," in (tmp_path / "a.csv").read_bytes()
    write("json", str(tmp_path / "a.json"), [{"file": name}])
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == [{"file": name}]
    parquet = pytest.importorskip("pyarrow.parquet")
    write("parquet", str(tmp_path / "a.parquet"), [{"file": name}])
    assert parquet.read_table(tmp_path / "a.parquet")["file"].to_pylist() == ["a\\udcff.png"]
