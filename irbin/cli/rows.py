"""Rows that are written as they come: CSV, JSON or Parquet, whole or not at all."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, Protocol, TextIO, cast, get_args

from irbin.cli.console import STDOUT
from irbin.errors import UsageError
from irbin.files import beside, named, put_file_in_place
from irbin.messages import as_text, is_text
from irbin.writers import claimed_file

Format = Literal["csv", "json", "parquet"]
_AT_ONCE = 1024
"""Rows of a Parquet file's group."""


class Rows(Protocol):
    """What takes rows."""

    def add(self, row: Mapping[str, Any]) -> None:
        """Writes one."""

    def end(self) -> None:
        """Writes what is left."""


def format_of(path: str, wanted: str | None = None) -> Format:
    """What is asked for, else what a file's ending says.

    Raises:
        UsageError: neither says it.
    """
    ending = wanted or Path(path).suffix.removeprefix(".").lower()
    if ending not in get_args(Format):
        raise UsageError(
            f"expected a file that ends in .csv, .json or .parquet, got `{path}`; `--format` says "
            "it otherwise"
        )
    check_parquet(ending)
    return cast("Format", ending)


def check_parquet(kind: str) -> None:
    """Refuses Parquet where no package writes it.

    Raises:
        UsageError: says what to install.
    """
    if kind != "parquet":
        return
    from importlib.util import find_spec

    if find_spec("pyarrow") is None:
        raise UsageError(
            "Parquet needs the package `pyarrow`, which is not installed: "
            "pip install 'irbin[parquet]'; or write .csv or .json"
        )


@contextmanager
def written(kind: Format, path: str, columns: Mapping[str, type[Any]]) -> Iterator[Rows]:
    """Rows into a file that appears when the block ends well; of text also to standard output.

    Args:
        kind: of file.
        path: to write; `-` is standard output.
        columns: their names and what they hold, for CSV and Parquet; JSON takes rows as they are.
    """
    if path == STDOUT:
        rows = _text_rows(kind, sys.stdout, columns)
        yield rows
        rows.end()
        return
    place = Path(path)
    partial = beside(place)
    with named(place), claimed_file(partial, place, waits=False):
        try:
            if kind == "parquet":
                rows = _Parquet(partial, columns)
                yield rows
                rows.end()
            else:
                # names of files are kept as they are
                with partial.open("w", -1, "utf-8", "surrogateescape", "") as file:
                    rows = _text_rows(kind, file, columns)
                    yield rows
                    rows.end()
            put_file_in_place(partial, place)
        except BaseException:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise


def _text_rows(kind: Format, stream: TextIO, columns: Mapping[str, type[Any]]) -> Rows:
    return _Csv(stream, columns) if kind == "csv" else _Json(stream)


class _Csv:
    def __init__(self, stream: TextIO, columns: Mapping[str, type[Any]]) -> None:
        self._writer = csv.DictWriter(stream, list(columns), restval="", lineterminator="\n")
        self._writer.writeheader()

    def add(self, row: Mapping[str, Any]) -> None:
        self._writer.writerow(row)

    def end(self) -> None:
        """Every row is written already."""


class _Json:
    def __init__(self, stream: TextIO) -> None:
        self._stream, self._before = stream, "[\n "

    def add(self, row: Mapping[str, Any]) -> None:
        is_utf8 = (self._stream.encoding or "utf-8").lower().replace("-", "") == "utf8"
        text = json.dumps(row, ensure_ascii=not is_utf8, allow_nan=False)
        if not is_text(text):  # the name of a file
            text = json.dumps(row, allow_nan=False)
        self._stream.write(self._before + text)
        self._before = ",\n "

    def end(self) -> None:
        self._stream.write("\n]\n" if self._before.startswith(",") else "[]\n")


class _Parquet:
    def __init__(self, path: Path, columns: Mapping[str, type[Any]]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        kinds = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
        self._schema = pa.schema([(name, kinds[kind]) for name, kind in columns.items()])
        self._table, self._rows = pa.Table, list[Mapping[str, Any]]()
        self._writer = pq.ParquetWriter(path, self._schema)

    def add(self, row: Mapping[str, Any]) -> None:
        self._rows.append({k: as_text(v) if isinstance(v, str) else v for k, v in row.items()})
        if len(self._rows) == _AT_ONCE:
            self._write()

    def end(self) -> None:
        self._write()
        self._writer.close()

    def _write(self) -> None:
        if self._rows:
            self._writer.write_table(self._table.from_pylist(self._rows, self._schema))
            self._rows.clear()
